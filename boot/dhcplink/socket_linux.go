package dhcplink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// dhcpFilter passes whole UDP datagrams over IPv4 to the server's or the
// client's port. Frames of a VLAN are another interface's and are not passed;
// tag 0 only carries a priority.
func dhcpFilter() ([]bpf.RawInstruction, error) {
	const drop, pass = 16, 17 // positions of the two returns
	prog := []bpf.Instruction{
		0:  bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		1:  bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 2},
		2:  bpf.LoadExtension{Num: bpf.ExtVLANTag},
		3:  bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x0fff, SkipTrue: drop - 4},
		4:  bpf.LoadAbsolute{Off: 12, Size: 2},
		5:  bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: drop - 6},
		6:  bpf.LoadAbsolute{Off: etherLen + 9, Size: 1},
		7:  bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: drop - 8},
		8:  bpf.LoadAbsolute{Off: etherLen + 6, Size: 2},
		9:  bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: drop - 10},
		10: bpf.LoadMemShift{Off: etherLen},
		11: bpf.LoadIndirect{Off: etherLen + 2, Size: 2},
		12: bpf.JumpIf{Cond: bpf.JumpEqual, Val: ServerPort, SkipTrue: pass - 13},
		13: bpf.JumpIf{Cond: bpf.JumpEqual, Val: ClientPort, SkipTrue: pass - 14},
		14: bpf.Jump{Skip: drop - 15},
		15: bpf.RetConstant{Val: 0},
		16: bpf.RetConstant{Val: 0},
		17: bpf.RetConstant{Val: MaxFrame},
	}
	return bpf.Assemble(prog)
}

// MaxFrame is more than a DHCP message that any interface carries.
const MaxFrame = 9216

// Listen opens a packet socket on an interface. It hears all protocols
// (filtered in the kernel), because only so does a packet socket hear what the
// host itself sends, and so does it see VLAN tags before they are taken off.
func Listen(index int) (*socket.Conn, error) {
	filter, err := dhcpFilter()
	if err != nil {
		return nil, fmt.Errorf("assembling the packet filter: %w", err)
	}
	// Protocol 0: nothing is heard before filter and interface are set.
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
	if err != nil {
		return nil, hint(err)
	}
	if err = c.SetBPF(filter); err == nil {
		err = c.Bind(&unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(hint(err), c.Close())
	}
	return c, nil
}

// routeSocket opens a socket that sends IPv4 packets made by hand. A UDP
// socket on port 67 would do, but it would take the requests away from a DHCP
// server on this host.
func routeSocket() (*socket.Conn, error) {
	c, err := socket.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW, "ip", nil)
	if err != nil {
		return nil, hint(err)
	}
	return c, nil
}

func sendRouted(ctx context.Context, c *socket.Conn, packet []byte, to netip.Addr) error {
	return c.Sendto(ctx, packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
}

// hint says what to do about a refused socket.
func hint(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("opening a packet socket: %w (run as root, or grant CAP_NET_RAW)", err)
	}
	return fmt.Errorf("opening a packet socket: %w", err)
}

// kernelLinks lists what the kernel has now. A dump that a change broke into
// is taken anew.
func kernelLinks() (links []netlink.Link, addrs []netlink.Addr, err error) {
	for range 5 {
		if links, err = netlink.LinkList(); err == nil {
			addrs, err = netlink.AddrList(nil, netlink.FAMILY_V4)
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	return links, addrs, nil
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
