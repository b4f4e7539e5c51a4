package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"rubus/boot/fakepi"
)

// Survey turns what boards would hear on an interface into findings. Own are
// this machine's addresses.
func Survey(iface string, heard []fakepi.Heard, own []netip.Addr) []Finding {
	var out []Finding
	var boot, address []string
	note := func(list *[]string, a netip.Addr) {
		if s := a.String(); !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, h := range heard {
		for _, o := range h.Offers {
			if o.Address.IsValid() {
				note(&address, o.Server)
			}
			if o.Boot || o.TFTP.IsValid() || o.TFTPText != "" {
				note(&boot, o.Source)
			}
		}
	}
	switch len(address) {
	case 0:
		out = append(out, Finding{
			Check: "dhcp", Level: Failure, What: "no DHCP server answers on " + iface, Why: "boards get no address; rubus gives none",
			Do: "connect the site's DHCP server (the router) to this network",
		})
	case 1:
		out = append(out, Finding{Check: "dhcp", Level: OK, What: fmt.Sprintf("%s gives out addresses on %s", address[0], iface)})
	default:
		out = append(out, Finding{
			Check: "dhcp", Level: Warning, What: fmt.Sprintf("%d DHCP servers answer on %s: %s", len(address), iface, strings.Join(address, ", ")),
			Why: "boards take the address of whichever is first", Do: "leave one of them on",
		})
	}
	for _, h := range heard {
		if h.Server.IsValid() && !h.Weak && !slices.Contains(own, h.Server) {
			out = append(out, Finding{
				Check: "boot servers", Level: Failure,
				What: fmt.Sprintf("a %s on %s would fetch its files from %s (%s)", h.Model.Title, iface, h.Server, h.Why),
				Why:  "that is not this machine", Do: foreign(h),
			})
		}
	}
	if len(boot) == 0 { // most routers name themselves in siaddr: that is no offer
		out = append(out, Finding{Check: "boot servers", Level: OK, What: "nobody else offers to boot a Pi on " + iface})
	}
	return out
}

// foreign says how to stop another server from taking a board.
func foreign(h fakepi.Heard) string {
	for _, o := range h.Offers {
		if o.TFTP == h.Server && o.Address.IsValid() {
			return fmt.Sprintf("remove option 66 (\"TFTP server name\", \"next server\") at the DHCP server %s, or set it to this machine", o.Server)
		}
	}
	return "switch off network boot at that server, or do without rubus there"
}

// bpduGroup is where bridges say who they are (IEEE 802.1D).
var bpduGroup = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0}

// SpanningTree listens on an interface for as long as wait and says what the
// switch port's spanning tree does to boards.
func SpanningTree(ctx context.Context, iface string, wait time.Duration) (Finding, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return Finding{}, err
	}
	const llc = 0x0004 // ETH_P_802_2
	conn, err := packet.Listen(ifi, packet.Raw, llc, nil)
	if err != nil {
		return Finding{}, fmt.Errorf("listening on %s (needs root): %w", iface, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	mreq := &unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(mreq.Address[:], bpduGroup)
	if err := join(conn, mreq); err != nil {
		return Finding{}, fmt.Errorf("listening on %s: %w", iface, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return Finding{}, err
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return Finding{Check: "spanning tree", Level: OK, What: "no switch speaks spanning tree on " + iface}, ctx.Err()
		}
		if err != nil {
			return Finding{}, err
		}
		if delay, ok := parseBPDU(buf[:n]); ok {
			return bpduFinding(iface, delay), nil
		}
	}
}

func join(conn *packet.Conn, mreq *unix.PacketMreq) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, mreq)
	})
	return errors.Join(err, set)
}

// parseBPDU reads a configuration BPDU (IEEE 802.1D, 9.3.1) or one of the rapid
// protocol (9.3.3) and gives the forward delay.
func parseBPDU(frame []byte) (delay time.Duration, ok bool) {
	const header = 14 + 3 // Ethernet with a length, and LLC
	if len(frame) < header+35 || string(frame[:6]) != string(bpduGroup) || frame[14] != 0x42 || frame[15] != 0x42 {
		return 0, false
	}
	b := frame[header:]
	if b[0] != 0 || b[1] != 0 || (b[3] != 0 && b[3] != 2) {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint16(b[33:])) * time.Second / 256, true
}

func bpduFinding(iface string, delay time.Duration) Finding {
	return Finding{
		Check: "spanning tree", Level: Warning,
		What: fmt.Sprintf("the switch speaks spanning tree on %s, with a delay of %s", iface, delay.Round(time.Second)),
		Why: fmt.Sprintf("a port that comes up is deaf for up to %s; a Pi 3 gives up after 25 s, a Pi 4 or 5 after 45 s",
			(2 * delay).Round(time.Second)),
		Do: "make the boards' ports edge ports (portfast)",
	}
}
