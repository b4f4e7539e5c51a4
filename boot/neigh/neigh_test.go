package neigh

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"rubus/boot/nettest"
	"rubus/config/device"
)

// quick asks as often, but without the waits that a real board is owed.
func quick() Options {
	return Options{Probes: 3, Interval: 40 * time.Millisecond, Wait: 300 * time.Millisecond}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestLookupAndResolve(t *testing.T) {
	lan(t)
	port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	tab := New(Options{})
	ctx := t.Context()
	if mac, state, err := tab.Lookup(ctx, piIP); state != Absent || err != nil || !mac.IsZero() {
		t.Errorf("before: %v, %v, %v", mac, state, err)
	}
	if mac, err := tab.Resolve(ctx, piIP); mac != piMAC || err != nil {
		t.Fatalf("Resolve: %v, %v", mac, err)
	}
	if mac, state, err := tab.Lookup(ctx, piIP); state != Reachable || mac != piMAC || err != nil {
		t.Errorf("after: %v, %v, %v", mac, state, err)
	}
	if mac, err := tab.Resolve(ctx, ip("::ffff:10.0.0.50")); mac != piMAC || err != nil {
		t.Errorf("mapped: %v, %v", mac, err)
	}
	for name, c := range map[string]struct {
		ip   string
		want error
	}{
		"nobody":   {"10.0.0.99", ErrNoAnswer},
		"own":      {"10.0.0.1", ErrOffLink},
		"loopback": {"127.0.0.1", ErrOffLink},
		"IPv6":     {"2001:db8::1", ErrNotIPv4},
		"no route": {"192.0.2.1", unix.ENETUNREACH},
	} {
		t.Run(name, func(t *testing.T) {
			if mac, err := New(quick()).Resolve(ctx, ip(c.ip)); !errors.Is(err, c.want) {
				t.Errorf("%v, %v; want %v", mac, err, c.want)
			}
		})
	}
}

// An address in the table may be asked for while it is not known.
func TestLookupStates(t *testing.T) {
	lan(t)
	r, err := routeTo(piIP)
	must(t, err)
	for state, want := range map[uint16]State{
		unix.NUD_REACHABLE: Reachable, unix.NUD_PERMANENT: Reachable, unix.NUD_STALE: Stale, unix.NUD_FAILED: Failed,
	} {
		must(t, r.set(piMAC, state))
		mac, got, err := New(Options{}).Lookup(t.Context(), piIP)
		if got != want || err != nil || (mac == piMAC) != (want >= Stale) {
			t.Errorf("kernel state %#x: %v, %v, %v; want %v", state, mac, got, err, want)
		}
	}
}

func TestOnLink(t *testing.T) {
	lan(t)
	must(t, netlink.RouteAdd(&netlink.Route{Gw: ip("10.0.0.254").AsSlice()}))
	tun := &netlink.Tuntap{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.TUNTAP_MODE_TUN}
	tun.Name = "tun0"
	must(t, netlink.LinkAdd(tun))
	t.Cleanup(func() { _ = netlink.LinkDel(tun) })
	nettest.Address(t, "tun0", "10.11.0.2/24")
	must(t, netlink.LinkSetUp(tun))
	for a, want := range map[string]bool{
		"10.0.0.50": true, "10.0.0.1": false, "127.0.0.1": false, "192.0.2.1": false, "10.0.0.255": false,
		"10.11.0.1": false, "::ffff:10.0.0.50": true, "fe80::1": false, "255.255.255.255": false, "224.0.0.1": false,
	} {
		if got := New(Options{}).OnLink(ip(a)); got != want {
			t.Errorf("OnLink(%s) = %v", a, got)
		}
	}
}

func TestOwner(t *testing.T) {
	lan(t)
	port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	now := time.Unix(1e9, 0)
	opt := quick()
	opt.Now = func() time.Time { return now }
	tab := New(opt)
	owner := func(a netip.Addr) device.MAC {
		mac, ok := tab.Owner(t.Context(), a)
		if ok == mac.IsZero() {
			t.Errorf("%v, %v", mac, ok)
		}
		return mac
	}
	if got := owner(piIP); got != piMAC {
		t.Errorf("owner %v", got)
	}
	// The kernel hears of a new owner, we do when our memory has run out.
	r, err := routeTo(piIP)
	must(t, err)
	must(t, r.set(otherMAC, unix.NUD_REACHABLE))
	if got := owner(piIP); got != piMAC {
		t.Errorf("remembered owner %v", got)
	}
	now = now.Add(2 * time.Second)
	if got := owner(piIP); got != otherMAC {
		t.Errorf("new owner %v", got)
	}
	// Nobody is remembered too, until somebody is heard there: whoever just came
	// and connects is not told to come again.
	free := ip("10.0.0.99")
	if got := owner(free); !got.IsZero() {
		t.Errorf("owner of a free address: %v", got)
	}
	r, err = routeTo(free)
	must(t, err)
	must(t, r.set(piMAC, unix.NUD_STALE))
	if got := owner(free); got != piMAC {
		t.Errorf("owner of an address just taken: %v", got)
	}
	for _, a := range []string{"192.0.2.1", "10.0.0.1", "fe80::1"} {
		if got := owner(ip(a)); !got.IsZero() {
			t.Errorf("owner of %s: %v", a, got)
		}
	}
	if n := len(tab.owners.found); n != 2 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// The way to an address is remembered for as long as its owner is, and no longer.
func TestWayIsRemembered(t *testing.T) {
	lan(t)
	now := time.Unix(1e9, 0)
	opt := quick()
	opt.Now = func() time.Time { return now }
	tab := New(opt)
	if !tab.OnLink(piIP) {
		t.Fatal("it is not on the link")
	}
	must(t, netlink.LinkSetDown(nettest.Link(t, "br0")))
	now = now.Add(2*time.Second - 1)
	if !tab.OnLink(piIP) {
		t.Error("the way is forgotten")
	}
	now = now.Add(1)
	if tab.OnLink(piIP) {
		t.Error("it is on a link that is down")
	}
	for i := range 2*maxOwners + 1 { // whoever is asked for
		_ = tab.OnLink(netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(tab.routes.found); n > maxOwners || n == 0 {
		t.Errorf("the ways to %d addresses are remembered", n)
	}
	// So is what an interface is that can be asked on, but for what proves a board silent: that
	// looks itself.
	br0 := nettest.Link(t, "br0")
	clear(tab.links.found)
	if _, err := tab.link(br0.Attrs().Index); err != nil || len(tab.links.found) != 0 {
		t.Errorf("%v; of an interface that is down %d are remembered", err, len(tab.links.found))
	}
	must(t, netlink.LinkSetUp(br0))
	running(t, "br0")
	mtu := func(at time.Time) int {
		t.Helper()
		now = at
		l, err := tab.link(br0.Attrs().Index)
		must(t, err)
		return l.MTU
	}
	was := mtu(now)
	must(t, netlink.LinkSetMTU(br0, was-100))
	if got := []int{mtu(now), mtu(now.Add(2*time.Second - 1)), mtu(now.Add(1))}; !slices.Equal(got, []int{was, was, was - 100}) {
		t.Errorf("the interface's MTU was %d, and is %d", was, got)
	}
	for i := range maxLinks - 1 {
		tab.links.put(1000+i, netlink.LinkAttrs{}, now)
	}
	now = now.Add(2 * time.Second)
	if mtu(now); len(tab.links.found) != 1 {
		t.Errorf("%d interfaces are remembered", len(tab.links.found))
	}
}

func TestOwnerIsBounded(t *testing.T) {
	tab := New(Options{})
	for i := range 2*maxOwners + 1 {
		tab.owners.put(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), piMAC, time.Now())
	}
	if n := len(tab.owners.found); n > maxOwners {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestProbe(t *testing.T) {
	lan(t)
	board := port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	port(t, "br0", "p2", otherMAC.String(), "10.0.0.51/24")
	tab := New(quick())
	check := func(what string, a string, mac device.MAC, want Verdict, other device.MAC) {
		t.Helper()
		got := tab.Probe(t.Context(), ip(a), mac)
		if got.Verdict != want || got.MAC != other || (got.Err != nil) != (want == Unknown) {
			t.Errorf("%s: %v %v %v; want %v %v", what, got.Verdict, got.MAC, got.Err, want, other)
		}
		silent, err := tab.Silent(t.Context(), ip(a), mac)
		if silent != (want == Silent || want == Other) || (err != nil) != (want == Unknown) {
			t.Errorf("%s: silent %v, %v", what, silent, err)
		}
		if got, has := tab.Other(t.Context(), ip(a), mac); got != other || has != (want == Other) {
			t.Errorf("%s: another has it: %v, %v", what, got, has)
		}
	}
	none := device.MAC{}
	check("board", "10.0.0.50", piMAC, Up, none)
	check("nobody", "10.0.0.99", device.MAC{2, 9}, Silent, none)
	check("another's address", "10.0.0.51", device.MAC{2, 9}, Other, otherMAC)
	check("our own address", "10.0.0.1", piMAC, Unknown, none)
	check("no MAC", "10.0.0.50", none, Unknown, none)
	check("no route", "192.0.2.1", piMAC, Unknown, none)
	check("IPv6", "fe80::1", piMAC, Unknown, none)

	// It has moved to an address that the kernel has heard of.
	nettest.Within(t, board, func() { nettest.Address(t, "eth0", "10.0.0.77/24") })
	if _, err := tab.Resolve(t.Context(), ip("10.0.0.77")); err != nil {
		t.Fatal(err)
	}
	check("board at another address", "10.0.0.99", piMAC, Up, none)

	// Its cable is pulled: it is silent. Ours is: nobody can tell.
	must(t, netlink.LinkSetDown(nettest.Link(t, "p1")))
	check("unplugged board", "10.0.0.50", piMAC, Silent, none)
	asking, err := arpSocket(nettest.Link(t, "br0").Attrs().Index, piIP, piMAC)
	must(t, err)
	defer asking.Close()
	must(t, hasCarrier(asking, "br0"))
	must(t, netlink.LinkSetDown(nettest.Link(t, "p2")))
	eventually(t, "the bridge loses its carrier", func() bool {
		_, err := carrierOf(nettest.Link(t, "br0").Attrs())
		return err != nil
	})
	check("no carrier", "10.0.0.50", piMAC, Unknown, none)
	for name, why := range map[string]string{"br0": "is down", "gone0": "no such device"} {
		if err := hasCarrier(asking, name); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", name, err, why)
		}
	}
}

func TestProbeCancelled(t *testing.T) {
	lan(t)
	port(t, "br0", "p2", otherMAC.String(), "10.0.0.51/24")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if a := New(Options{}).Probe(ctx, piIP, piMAC); a.Verdict != Unknown || !errors.Is(a.Err, context.DeadlineExceeded) {
		t.Errorf("%+v", a)
	}
}

// A board behind a router is pinged.
func TestProbeOffLink(t *testing.T) {
	lan(t)
	router := port(t, "br0", "p-router", "02:00:00:00:00:fe", "10.0.0.254/24")
	nettest.Within(t, router, func() {
		sysctl(t, "net/ipv4/ip_forward", "1")
		// It is asked faster than a real one; all the machine shares the limit of old kernels.
		sysctl(t, "net/ipv4/icmp_ratemask", "0")
		nettest.Address(t, "lo", "10.5.0.50/32") // stands for a board beyond
		must(t, netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(ip("10.7.0.0").AsSlice()), Type: unix.RTN_PROHIBIT}))
		must(t, netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(ip("10.8.0.0").AsSlice()), Type: unix.RTN_UNREACHABLE}))
		must(t, netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(ip("10.9.0.0").AsSlice()), Type: unix.RTN_BLACKHOLE}))
	})
	must(t, netlink.RouteAdd(&netlink.Route{Gw: ip("10.0.0.254").AsSlice()}))
	tab := New(quick())
	for name, c := range map[string]struct {
		ip   string
		want Verdict
	}{
		"answers":                 {"10.5.0.50", Up},
		"the router's word":       {"10.8.0.0", Silent}, // host unreachable
		"lost":                    {"10.9.0.0", Silent},
		"a firewall on the way":   {"10.7.0.0", Unknown},
		"the router has no route": {"10.6.0.1", Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			if a := tab.Probe(t.Context(), ip(c.ip), piMAC); a.Verdict != c.want {
				t.Errorf("%v (%v); want %v", a.Verdict, a.Err, c.want)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if a := New(Options{}).Probe(ctx, ip("10.9.0.0"), piMAC); a.Verdict != Unknown {
		t.Errorf("cancelled: %+v", a)
	}
	// Silence behind a router that is silent too is no proof.
	port(t, "br0", "p2", otherMAC.String(), "10.0.0.51/24") // keeps our link up
	must(t, netlink.LinkSetDown(nettest.Link(t, "p-router")))
	if a := tab.Probe(t.Context(), ip("10.9.0.0"), piMAC); a.Verdict != Unknown {
		t.Errorf("without a router: %+v", a)
	}
}

// talker counts the ARP requests of ours that reach a link.
func talker(t *testing.T, name string) (requests *atomic.Int32) {
	t.Helper()
	c, err := arpSocket(nettest.Link(t, name).Attrs().Index, ownIP, device.MAC{})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	requests = new(atomic.Int32)
	go func(c *socket.Conn) {
		buf := make([]byte, 256)
		for {
			n, _, err := c.Recvfrom(context.Background(), buf, 0)
			if err != nil {
				return
			}
			if m, err := parseARP(buf[:n]); err == nil && m.ip == ownIP && buf[21] == byte(arp.OperationRequest) {
				requests.Add(1)
			}
		}
	}(c)
	return requests
}
