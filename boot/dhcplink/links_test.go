package dhcplink

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestChooseLinks(t *testing.T) {
	hw := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	attrs := func(index int, name string, change func(*netlink.LinkAttrs)) netlink.LinkAttrs {
		a := netlink.LinkAttrs{Index: index, Name: name, EncapType: "ether", HardwareAddr: hw, RawFlags: unix.IFF_UP}
		if change != nil {
			change(&a)
		}
		return a
	}
	in := func(master int) func(*netlink.LinkAttrs) {
		return func(a *netlink.LinkAttrs) { a.MasterIndex = master }
	}
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: attrs(1, "lo", func(a *netlink.LinkAttrs) { a.EncapType, a.RawFlags = "loopback", a.RawFlags|unix.IFF_LOOPBACK })},
		&netlink.Device{LinkAttrs: attrs(2, "eth0", nil)},
		&netlink.Device{LinkAttrs: attrs(3, "eth1", func(a *netlink.LinkAttrs) { a.RawFlags = 0 })},
		&netlink.Device{LinkAttrs: attrs(4, "eth2", nil)},
		&netlink.Bridge{LinkAttrs: attrs(5, "br0", nil)},
		&netlink.Veth{LinkAttrs: attrs(6, "veth0", in(5))},
		&netlink.Vlan{LinkAttrs: attrs(7, "eth0.10", nil)},
		&netlink.Tuntap{LinkAttrs: attrs(8, "tun0", func(a *netlink.LinkAttrs) { a.EncapType, a.HardwareAddr = "none", nil })},
		&netlink.Vrf{LinkAttrs: attrs(9, "vrf0", nil)},
		&netlink.Device{LinkAttrs: attrs(10, "eth3", in(9))},
	}
	var addrs []netlink.Addr
	for index, list := range map[int][]string{
		1: {"127.0.0.1/8"}, 2: {"10.0.0.1/24", "10.0.0.2/24", "10.5.0.1/16"}, 3: {"10.1.0.1/24"},
		5: {"10.2.0.1/24"}, 6: {"10.2.0.9/24"}, 7: {"10.3.0.1/24"}, 8: {"10.4.0.1/24"}, 10: {"10.6.0.1/24"},
	} {
		for i, a := range list {
			n, err := netlink.ParseIPNet(a)
			if err != nil {
				t.Fatal(err)
			}
			addr := netlink.Addr{IPNet: n, LinkIndex: index}
			if i == 1 {
				addr.Flags = unix.IFA_F_SECONDARY
			}
			addrs = append(addrs, addr)
		}
	}
	for name, c := range map[string]struct {
		patterns []string
		pin      string
		want     []string
	}{
		"all":                {nil, "", []string{"br0", "eth0", "eth0.10", "eth3"}},
		"by name":            {[]string{"br0", "eth3"}, "", []string{"br0", "eth3"}},
		"by pattern":         {[]string{"eth?"}, "", []string{"eth0", "eth3"}},
		"no such":            {[]string{"enp*"}, "", nil},
		"by address":         {nil, "10.5.0.1", []string{"eth0"}},
		"address of nobody":  {nil, "10.99.0.1", nil},
		"name and address":   {[]string{"br0"}, "10.5.0.1", nil},
		"never the loopback": {[]string{"lo"}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := selection{patterns: c.patterns}
			if c.pin != "" {
				s.pin = netip.MustParseAddr(c.pin)
			}
			var got []string
			for _, l := range s.choose(links, addrs) {
				got = append(got, l.Name)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("links %v, want %v", got, c.want)
			}
		})
	}
	eth0 := selection{}.choose(links, addrs)[2]
	if got := eth0.Addrs; len(got) != 3 || got[0].String() != "10.0.0.1/24" || got[2].String() != "10.0.0.2/24" {
		t.Errorf("addresses of eth0: %v", got)
	}
}

func TestServerAddress(t *testing.T) {
	l := Link{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.5.0.1/16")}}
	none := netip.Addr{}
	for name, c := range map[string]struct {
		pin, dst, client netip.Addr
		want             string
	}{
		"first":                  {none, none, none, "10.0.0.1"},
		"board in second subnet": {none, none, netip.MustParseAddr("10.5.7.7"), "10.5.0.1"},
		"board elsewhere":        {none, none, netip.MustParseAddr("172.16.0.1"), "10.0.0.1"},
		"sent to the second":     {none, netip.MustParseAddr("10.5.0.1"), none, "10.5.0.1"},
		"broadcast":              {none, netip.MustParseAddr("255.255.255.255"), none, "10.0.0.1"},
		"pinned":                 {netip.MustParseAddr("10.5.0.1"), none, netip.MustParseAddr("10.0.0.9"), "10.5.0.1"},
		"pinned elsewhere":       {netip.MustParseAddr("10.9.0.1"), none, none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := l.Server(c.pin, c.dst, c.client)
			if ok != (c.want != "") || ok && got.String() != c.want {
				t.Errorf("%v, %v; want %q", got, ok, c.want)
			}
		})
	}
}
