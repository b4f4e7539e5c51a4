package dhcpserver

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"rubus/boot/dhcplink"
)

// holdPort opens port 67 on a link and reads nothing from it: messages are heard
// by a packet socket.
func holdPort(iface string, addr netip.Addr) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "dhcp")
	drop, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err == nil {
		filter := []unix.SockFilter{{Code: drop[0].Op, Jt: drop[0].Jt, Jf: drop[0].Jf, K: drop[0].K}}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter[0]})
	}
	if err == nil {
		err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, iface)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: dhcplink.ServerPort, Addr: addr.As4()})
	}
	if err == nil {
		return f, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = errPortHeld
	}
	return nil, errors.Join(err, f.Close())
}
