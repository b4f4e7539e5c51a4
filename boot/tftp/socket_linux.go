package tftp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens a server's socket, usually on port 69. With the address 0.0.0.0
// it takes requests to any address of the host.
func Listen(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	if !addr.Addr().Is4() {
		return nil, fmt.Errorf("listening for TFTP on %s: want an IPv4 address", addr)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// Before it is bound, so that no packet comes in without.
		return wantArrivals(raw)
	}}
	conn, err := config.ListenPacket(ctx, "udp4", addr.String())
	if err != nil {
		return nil, fmt.Errorf("listening for TFTP: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// arrival is where a packet came in.
type arrival struct {
	local     netip.Addr // the address it was sent to
	interf    int        // index of the interface
	broadcast bool       // it was sent to more than this host
}

// wantArrivals makes the kernel say where packets come in (ip(7), IP_PKTINFO).
func wantArrivals(raw syscall.RawConn) error {
	var setErr error
	err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err == nil {
		err = setErr
	}
	if err != nil {
		return fmt.Errorf("asking for the address of packets: %w", err)
	}
	return nil
}

// parseArrival reads what the kernel said.
func parseArrival(oob []byte) (arrival, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return arrival{}, false
	}
	for _, m := range messages {
		if m.Header.Level != unix.IPPROTO_IP || m.Header.Type != unix.IP_PKTINFO || len(m.Data) < unix.SizeofInet4Pktinfo {
			continue
		}
		// struct in_pktinfo: interface, our address for it, address in the header.
		local := netip.AddrFrom4([4]byte(m.Data[4:8]))
		header := netip.AddrFrom4([4]byte(m.Data[8:12]))
		return arrival{
			local: local, interf: int(binary.NativeEndian.Uint32(m.Data)),
			broadcast: header != local,
		}, true
	}
	return arrival{}, false
}
