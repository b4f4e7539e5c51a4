package neigh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"rubus/config/device"
)

// route is how the kernel reaches an address.
type route struct {
	ip, src netip.Addr
	gateway netip.Addr // invalid: none
	index   int        // of the interface
	link    netlink.LinkAttrs
	onLink  bool // without a gateway, by Ethernet; then link is its interface
	local   bool // one of our own addresses
}

func routeTo(ip netip.Addr) (route, error) { return routeBy(ip, linkOf) }

// routeBy is routeTo where link says what an interface is.
func routeBy(ip netip.Addr, link func(index int) (netlink.LinkAttrs, error)) (route, error) {
	r := route{ip: ip.Unmap()}
	if !r.ip.Is4() {
		return r, fmt.Errorf("%v: %w", ip, ErrNotIPv4)
	}
	dst := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: 32}}
	msgs, err := rtnetlink(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, dst, nl.NewRtAttr(unix.RTA_DST, r.ip.AsSlice()))
	if err == nil && len(msgs) == 0 {
		err = unix.ENETUNREACH
	}
	if err == nil {
		err = r.read(msgs[0])
	}
	if err != nil {
		return r, fmt.Errorf("looking for the route to %v: %w", ip, err)
	}
	if r.onLink {
		if r.link, err = link(r.index); err != nil {
			return r, fmt.Errorf("looking at the interface towards %v: %w", ip, err)
		}
		r.onLink = r.link.EncapType == "ether" && r.link.RawFlags&unix.IFF_NOARP == 0
	}
	return r, nil
}

// read takes a route out of the kernel's message. It is on the link as far as the route says:
// a tunnel has no gateway either, but no neighbours to tell apart.
func (r *route) read(msg []byte) error {
	if len(msg) < unix.SizeofRtMsg {
		return unix.EBADMSG
	}
	attrs, err := nl.ParseRouteAttrAsMap(msg[unix.SizeofRtMsg:])
	if err != nil {
		return err
	}
	if oif := attrs[unix.RTA_OIF].Value; len(oif) == 4 {
		r.index = int(nl.NativeEndian().Uint32(oif))
	}
	r.src, _ = netip.AddrFromSlice(attrs[unix.RTA_PREFSRC].Value)
	r.gateway, _ = netip.AddrFromSlice(attrs[unix.RTA_GATEWAY].Value)
	_, via := attrs[unix.RTA_VIA]
	kind := nl.DeserializeRtMsg(msg).Type
	r.local = kind == unix.RTN_LOCAL
	r.onLink = kind == unix.RTN_UNICAST && !r.gateway.IsValid() && !via
	return nil
}

// neighbour is the entry of the kernel's table.
func (r route) neighbour() (device.MAC, State, error) {
	of := &netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(r.index)}
	msgs, err := rtnetlink(unix.RTM_GETNEIGH, 0, unix.RTM_NEWNEIGH, of, nl.NewRtAttr(netlink.NDA_DST, r.ip.AsSlice()))
	if errors.Is(err, unix.ENOENT) || err == nil && len(msgs) == 0 {
		return device.MAC{}, Absent, nil
	}
	if err != nil {
		return device.MAC{}, Absent, fmt.Errorf("reading the neighbour entry of %v: %w", r.ip, err)
	}
	n, err := netlink.NeighDeserialize(msgs[0])
	if err != nil {
		return device.MAC{}, Absent, fmt.Errorf("reading the neighbour entry of %v: %w", r.ip, err)
	}
	mac, state := entry(n)
	return mac, state, nil
}

// entry translates the kernel's state (linux/neighbour.h).
func entry(n *netlink.Neigh) (device.MAC, State) {
	switch {
	case n.State&unix.NUD_FAILED != 0:
		return device.MAC{}, Failed
	case n.State&unix.NUD_INCOMPLETE != 0:
		return device.MAC{}, Incomplete
	case len(n.HardwareAddr) != 6 || device.MAC(n.HardwareAddr).IsZero():
		return device.MAC{}, Absent
	case n.State&(unix.NUD_REACHABLE|unix.NUD_PERMANENT|unix.NUD_NOARP) != 0:
		return device.MAC(n.HardwareAddr), Reachable
	case n.State&(unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0:
		return device.MAC(n.HardwareAddr), Stale
	}
	return device.MAC{}, Absent
}

// set writes the entry of the kernel's table.
func (r route) set(mac device.MAC, state uint16) error {
	return r.write(unix.NLM_F_REPLACE, netlink.Ndmsg{State: state}, nl.NewRtAttr(netlink.NDA_LLADDR, mac[:]))
}

// keep is set unless the entry has another MAC by now, which the kernel itself looks at:
// without NLM_F_REPLACE it changes no MAC (net/core/neighbour.c, __neigh_update), and says
// nothing of that.
func (r route) keep(mac device.MAC, state uint16) error {
	return r.write(unix.NLM_F_APPEND, netlink.Ndmsg{State: state}, nl.NewRtAttr(netlink.NDA_LLADDR, mac[:]))
}

// use has the kernel ask for the address by ARP as a packet to it would, without the packet.
func (r route) use() error {
	return r.write(unix.NLM_F_REPLACE, netlink.Ndmsg{Flags: netlink.NTF_USE})
}

func (r route) write(how int, entry netlink.Ndmsg, more ...nl.NetlinkRequestData) error {
	entry.Family, entry.Index = unix.AF_INET, uint32(r.index)
	data := append([]nl.NetlinkRequestData{&entry, nl.NewRtAttr(netlink.NDA_DST, r.ip.AsSlice())}, more...)
	_, err := rtnetlink(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|how, 0, data...)
	return err
}

// resolve has the kernel ask for the address, unless it knows, and waits until
// the kernel says that the entry has changed.
func (r route) resolve(ctx context.Context) (device.MAC, error) {
	if mac, state, err := r.neighbour(); err != nil || state >= Stale {
		return mac, err
	}
	c, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", nil)
	if err != nil {
		return device.MAC{}, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	if err := c.Bind(&unix.SockaddrNetlink{Groups: unix.RTMGRP_NEIGH}); err != nil {
		return device.MAC{}, fmt.Errorf("watching the neighbour table: %w", err)
	}
	if err := r.use(); err != nil {
		return device.MAC{}, fmt.Errorf("asking for a neighbour: %w (needs CAP_NET_ADMIN)", err)
	}
	buf := make([]byte, 1) // what they say is asked for anew
	for {
		mac, state, err := r.neighbour()
		switch {
		case err != nil:
			return device.MAC{}, err
		case state >= Stale:
			return mac, nil
		case state == Failed:
			return device.MAC{}, ErrNoAnswer
		}
		// ENOBUFS: a message was lost, perhaps ours.
		if _, _, err := c.Recvfrom(ctx, buf, 0); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return device.MAC{}, ErrNoAnswer
			}
			return device.MAC{}, fmt.Errorf("watching the neighbour table: %w", err)
		}
	}
}

// neighbours are the entries of the kernel's table, of all interfaces.
func neighbours() ([]netlink.Neigh, error) {
	msgs, err := rtnetlink(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, unix.RTM_NEWNEIGH, &netlink.Ndmsg{Family: unix.AF_INET})
	if err != nil {
		return nil, fmt.Errorf("reading the neighbour table: %w", err)
	}
	list := make([]netlink.Neigh, 0, len(msgs))
	for _, m := range msgs {
		n, err := netlink.NeighDeserialize(m)
		if err != nil {
			return nil, fmt.Errorf("reading the neighbour table: %w", err)
		}
		list = append(list, *n)
	}
	return list, nil
}

// addressesOf are the addresses that the table has for a MAC on a link.
func addressesOf(index int, mac device.MAC) ([]netip.Addr, error) {
	list, err := neighbours()
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	for i := range list {
		if m, state := entry(&list[i]); state >= Stale && m == mac && list[i].LinkIndex == index {
			if ip, ok := netip.AddrFromSlice(list[i].IP.To4()); ok {
				found = append(found, ip)
			}
		}
	}
	return found, nil
}

// linkOf is what the kernel says of an interface.
func linkOf(index int) (netlink.LinkAttrs, error) {
	of := nl.NewIfInfomsg(unix.AF_UNSPEC)
	of.Index = int32(index)
	msgs, err := rtnetlink(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, of)
	if err == nil && len(msgs) == 0 {
		err = unix.ENODEV
	}
	if err != nil {
		return netlink.LinkAttrs{}, err
	}
	l, err := netlink.LinkDeserialize(nil, msgs[0])
	if err != nil {
		return netlink.LinkAttrs{}, err
	}
	return *l.Attrs(), nil
}

// hasCarrier fails unless frames can leave by a socket of an interface and reach its link.
func hasCarrier(c *socket.Conn, name string) error {
	ifr, err := unix.NewIfreq(name)
	var raw syscall.RawConn
	if err == nil {
		raw, err = c.SyscallConn()
	}
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.IoctlIfreq(int(fd), unix.SIOCGIFFLAGS, ifr) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("looking at interface %q: %w", name, err)
	}
	if want := uint16(unix.IFF_UP | unix.IFF_RUNNING); ifr.Uint16()&want != want {
		return fmt.Errorf("interface %q is down", name)
	}
	return nil
}

// carrierOf fails unless frames could leave and reach an Ethernet link as it was seen; it
// gives the link's own MAC.
func carrierOf(a *netlink.LinkAttrs) (device.MAC, error) {
	switch {
	case a.Flags&net.FlagUp == 0 || a.RawFlags&unix.IFF_RUNNING == 0:
		return device.MAC{}, fmt.Errorf("interface %q is down", a.Name)
	case len(a.HardwareAddr) != 6:
		return device.MAC{}, fmt.Errorf("interface %q is no Ethernet", a.Name)
	}
	return device.MAC(a.HardwareAddr), nil
}

// arpFilter passes the ARP messages whose sender has one MAC, or one address. When boards
// come by the hundred each of them is asked for on a socket of its own, and each hears what
// all of them say.
func arpFilter(ip netip.Addr, mac device.MAC) []bpf.Instruction {
	const (
		senderMAC = etherLen + 8 // RFC 826, for Ethernet and IPv4
		senderIP  = senderMAC + 6
	)
	b := ip.As4()
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: senderIP, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 4},
		bpf.LoadAbsolute{Off: senderMAC, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac[:]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: senderMAC + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(binary.BigEndian.Uint16(mac[4:])), SkipTrue: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	}
}

// arpSocket sends ARP frames on a link, and hears those of a MAC or an address.
func arpSocket(index int, ip netip.Addr, mac device.MAC) (*socket.Conn, error) {
	filter, err := bpf.Assemble(arpFilter(ip, mac))
	if err != nil {
		return nil, fmt.Errorf("assembling the filter for ARP: %w", err)
	}
	// Protocol 0: nothing is heard before the filter is there.
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w (needs CAP_NET_RAW)", err)
	}
	var proto [2]byte
	binary.BigEndian.PutUint16(proto[:], unix.ETH_P_ARP)
	sa := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(proto[:]), Ifindex: index}
	if err = c.SetBPF(filter); err == nil {
		err = c.Bind(sa)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening for ARP: %w", err), c.Close())
	}
	return c, nil
}
