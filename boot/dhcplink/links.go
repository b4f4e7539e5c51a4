package dhcplink

import (
	"net/netip"
	"path"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"rubus/config/device"
)

// Link is an Ethernet interface that can answer.
type Link struct {
	Index int
	Name  string
	MAC   device.MAC
	// Addrs are its IPv4 addresses, primary ones first; never empty.
	Addrs []netip.Prefix
}

// Server picks the address that a board is to take for its server: pin if it
// is valid, else the one in the board's subnet, if the board's address is
// known, else the one that a relay sent the request to, else the first.
func (l Link) Server(pin, dst, client netip.Addr) (netip.Addr, bool) {
	if pin.IsValid() {
		return pin, l.Has(pin)
	}
	for _, a := range l.Addrs {
		if client.IsValid() && a.Contains(client) {
			return a.Addr(), true
		}
	}
	if l.Has(dst) {
		return dst, true
	}
	return l.Addrs[0].Addr(), true
}

// Has says whether an address is one of the link's own.
func (l Link) Has(a netip.Addr) bool {
	for _, p := range l.Addrs {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// selection says which interfaces to serve.
type selection struct {
	patterns []string // of names; none: all
	pin      netip.Addr
}

// choose takes the links to serve out of what the kernel has: Ethernet, up,
// not loopback, with an IPv4 address, and no port of a bridge or a bond, whose
// frames the bridge or bond hears.
func (s selection) choose(links []netlink.Link, addrs []netlink.Addr) map[int]Link {
	all := map[int]*netlink.LinkAttrs{}
	types := map[int]string{}
	for _, l := range links {
		all[l.Attrs().Index], types[l.Attrs().Index] = l.Attrs(), l.Type()
	}
	found := map[int]Link{}
	for index, a := range all {
		master := types[a.MasterIndex]
		if a.EncapType != "ether" || len(a.HardwareAddr) != 6 || a.RawFlags&unix.IFF_UP == 0 ||
			a.RawFlags&unix.IFF_LOOPBACK != 0 || master == "bridge" || master == "bond" || !s.matches(a.Name) {
			continue
		}
		l := Link{Index: index, Name: a.Name, MAC: device.MAC(a.HardwareAddr), Addrs: addresses(addrs, index)}
		if len(l.Addrs) > 0 && (!s.pin.IsValid() || l.Has(s.pin)) {
			found[index] = l
		}
	}
	return found
}

func (s selection) matches(name string) bool {
	for _, p := range s.patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return len(s.patterns) == 0
}

// addresses are the IPv4 addresses of one link, in the kernel's order but with
// the primary ones of each subnet first.
func addresses(addrs []netlink.Addr, index int) []netip.Prefix {
	var primary, secondary []netip.Prefix
	for _, a := range addrs {
		if a.LinkIndex != index || a.IPNet == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		ones, bits := a.Mask.Size()
		if !ip.Is4() || ip.IsUnspecified() || ip.IsLoopback() || bits != 32 {
			continue
		}
		if a.Flags&unix.IFA_F_SECONDARY != 0 {
			secondary = append(secondary, netip.PrefixFrom(ip, ones))
		} else {
			primary = append(primary, netip.PrefixFrom(ip, ones))
		}
	}
	return append(primary, secondary...)
}
