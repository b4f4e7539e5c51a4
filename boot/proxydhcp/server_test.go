package proxydhcp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"rubus/boot/dhcptest"
	"rubus/boot/nettest"
	"rubus/boot/pidhcp"
)

const pi4MAC = "e4:5f:01:09:02:f7"

// lan is a bridge with our address and a board.
func lan(t *testing.T) *board {
	t.Helper()
	nettest.Private(t)
	bridge(t, "br0")
	nettest.Address(t, "br0", "10.0.0.1/24")
	cable(t, "p-board", "board", pi4MAC, "br0")
	return newBoard(t, "board")
}

// The site's router hands out addresses; we only say where to boot from.
func TestBesideRouter(t *testing.T) {
	b := lan(t)
	router := nettest.New(t)
	cable(t, "p-router", "router", "02:00:00:00:00:fe", "br0")
	move(t, "router", router, "10.0.0.254/24")
	nettest.Within(t, router, func() {
		dnsmasq(t, "--interface=router", "--bind-interfaces", "--dhcp-range=10.0.0.50,10.0.0.99,2m")
	})
	r := run(t, Server{})

	pi4 := dhcptest.Packet(t, "discover-pi4")
	got := b.ask(t, pi4, "10.0.0.1", "10.0.0.254")
	ours, theirs := got["10.0.0.1"], got["10.0.0.254"]
	if d := cmp.Diff(dhcptest.Packet(t, "offer-pi4"), ours.Payload); d != "" {
		t.Error(d)
	}
	checksummed(t, ours.frame)
	if ours.Src != ap("10.0.0.1:67") || ours.Dst != ap("255.255.255.255:68") {
		t.Errorf("%v -> %v", ours.Src, ours.Dst)
	}
	if yours := theirs.msg.YourIPAddr.String(); theirs.msg.TFTPServerName() != "" || yours < "10.0.0.50" || yours > "10.0.0.99" {
		t.Errorf("the router's offer: %v", theirs.msg.Summary())
	}
	e := r.wait(t, "answered", func(e pidhcp.Event) bool { return e.What == pidhcp.Answered })
	if e.Interface != "br0" || e.Server != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("event %+v", e)
	}

	// The EEPROM takes the address, without option 60: that is not our affair.
	request, err := dhcpv4.NewRequestFromOffer(theirs.msg)
	must(t, err)
	b.send(t, request.ToBytes())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		h, ok := b.next(ctx, t)
		if !ok {
			t.Fatal("no ACK")
		}
		if h.msg.MessageType() == dhcpv4.MessageTypeAck {
			if h.Src.Addr().String() != "10.0.0.254" {
				t.Errorf("an ACK of %v", h.Src)
			}
			break
		}
	}
	r.wait(t, "the REQUEST ignored", func(e pidhcp.Event) bool { return e.What == pidhcp.Ignored && e.Reason == pidhcp.NotPXE })
}

// A DHCP server on this host holds port 67, and we answer beside it.
func TestBesideServerOnThisHost(t *testing.T) {
	b := lan(t)
	dnsmasq(t, "--interface=br0", "--dhcp-range=10.0.0.50,10.0.0.99,2m", "--dhcp-option=66,10.0.0.7")
	r := run(t, Server{})
	b.send(t, dhcptest.Packet(t, "discover-pi4"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var proxy, lease bool
	for !proxy || !lease {
		// A bridge forwards from a moment after its port is up: a board asks again.
		second, end := context.WithTimeout(ctx, time.Second)
		h, ok := b.next(second, t)
		end()
		switch {
		case !ok && ctx.Err() != nil:
			t.Fatalf("our offer %v, the server's %v", proxy, lease)
		case !ok:
			b.send(t, dhcptest.Packet(t, "discover-pi4"))
			continue
		}
		if h.msg.YourIPAddr.IsUnspecified() {
			proxy = true
		} else {
			lease = true
		}
	}
	e := r.wait(t, "the server's offer", func(e pidhcp.Event) bool { return e.What == pidhcp.OtherOffer })
	if o := e.Offer; !o.SameHost || o.BootServer != "10.0.0.7" || !o.Address.IsValid() || o.PiBoot || o.Client != b.mac || e.Interface != "br0" {
		t.Errorf("%+v", o)
	}
}

// pidhcp.What dnsmasq answers as a proxy, every board is known to take: ours is that
// plus option 66 and siaddr.
func TestLikeDnsmasq(t *testing.T) {
	b := lan(t)
	router := nettest.New(t)
	cable(t, "p-router", "router", "02:00:00:00:00:fe", "br0")
	move(t, "router", router, "10.0.0.254/24")
	nettest.Within(t, router, func() {
		dnsmasq(t, "--interface=router", "--bind-interfaces", "--dhcp-range=10.0.0.0,proxy", "--pxe-service=0,Raspberry Pi Boot")
	})
	r := run(t, Server{Decider: deciderFunc(func(pidhcp.Sighting) pidhcp.Decision { return pidhcp.Decision{} })})
	in := dhcptest.Packet(t, "discover-pi4")
	theirs := b.ask(t, in, "10.0.0.254")["10.0.0.254"]
	req, err := pidhcp.Parse(in, nil)
	must(t, err)
	ours, err := dhcpv4.FromBytes(pidhcp.Reply(req, netip.MustParseAddr("10.0.0.254"), pidhcp.DefaultManners()))
	must(t, err)
	ours.ServerIPAddr = net.IPv4zero
	ours.Options.Del(dhcpv4.OptionTFTPServerName)
	if d := cmp.Diff(theirs.msg.ToBytes(), ours.ToBytes()); d != "" {
		t.Error(d)
	}
	e := r.wait(t, "the proxy's offer", func(e pidhcp.Event) bool { return e.What == pidhcp.OtherOffer })
	if o := e.Offer; o.SameHost || !o.PiBoot || o.Address.IsValid() {
		t.Errorf("%+v", o)
	}
}

func TestOthersGetNoAnswer(t *testing.T) {
	b := lan(t)
	r := run(t, Server{})
	names := []string{"discover-ipxe", "discover-pc", "discover-uboot"}
	for _, n := range names {
		b.send(t, dhcptest.Packet(t, n))
	}
	b.send(t, []byte("rubbish"))
	b.send(t, dhcptest.Packet(t, "discover-pi4"))
	// Frames are dealt with in order: the first answer is the Pi's.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h, ok := b.next(ctx, t)
	if !ok || h.msg.ClientHWAddr.String() != pi4MAC {
		t.Errorf("answer %+v", h.msg)
	}
	for _, reason := range []pidhcp.Reason{pidhcp.IPXE, pidhcp.ForeignGUID, pidhcp.NotPXE, pidhcp.Malformed} {
		e := r.wait(t, string(reason), func(e pidhcp.Event) bool { return e.What != pidhcp.Listening })
		if e.What != pidhcp.Ignored || e.Reason != reason {
			t.Errorf("%+v; want %q", e, reason)
		}
	}
	r.wait(t, "answered", func(e pidhcp.Event) bool { return e.What == pidhcp.Answered })
}

// Each board hears the address of the interface that heard it, and nothing
// from the interface below a VLAN, which hears the VLAN's frames too.
func TestMultiHomed(t *testing.T) {
	nettest.Private(t)
	cable(t, "eth0", "board0", pi4MAC, "")
	nettest.Address(t, "eth0", "10.0.0.1/24")
	cable(t, "eth1", "board1", pi4MAC, "")
	nettest.Address(t, "eth1", "10.1.0.1/24")
	r := run(t, Server{})
	for board, server := range map[string]string{"board0": "10.0.0.1", "board1": "10.1.0.1"} {
		b := newBoard(t, board)
		b.sendTagged(t, dhcptest.Packet(t, "discover-pi4-2021"), 10)
		h := b.ask(t, dhcptest.Packet(t, "discover-pi4"), server)[server]
		if h.msg.TFTPServerName() != server || h.msg.ServerIPAddr.String() != server || h.msg.ServerIdentifier().String() != server {
			t.Errorf("%s: %v", board, h.msg.Summary())
		}
		e := r.wait(t, "answered", func(e pidhcp.Event) bool { return e.What == pidhcp.Answered })
		if e.Server.String() != server || e.Request.MAC.String() != pi4MAC {
			t.Errorf("%v on %s was answered from %v on %s", e.Request.MAC, board, e.Server, e.Interface)
		}
		b.sendTagged(t, dhcptest.Packet(t, "discover-pi4"), 0) // a priority, no VLAN
		r.wait(t, "answered", func(e pidhcp.Event) bool { return e.What == pidhcp.Answered })
	}
	// Nothing was answered twice.
	r.stop()
	close(r.events)
	for e := range r.events {
		if e.What != pidhcp.Gone {
			t.Errorf("%+v", e)
		}
	}
}

func TestOnlyThePinnedAddress(t *testing.T) {
	nettest.Private(t)
	cable(t, "eth0", "board0", pi4MAC, "")
	nettest.Address(t, "eth0", "10.0.0.1/24")
	cable(t, "eth1", "board1", pi4MAC, "")
	nettest.Address(t, "eth1", "10.1.0.1/24")
	nettest.Address(t, "eth1", "10.1.0.2/24")
	r := run(t, Server{Address: netip.MustParseAddr("10.1.0.2")})
	newBoard(t, "board0").send(t, dhcptest.Packet(t, "discover-pi4"))
	newBoard(t, "board1").ask(t, dhcptest.Packet(t, "discover-pi4"), "10.1.0.2")
	e := r.wait(t, "listening", func(e pidhcp.Event) bool { return e.What == pidhcp.Listening })
	if e.Interface != "eth1" {
		t.Errorf("%+v", e)
	}
	if e = r.wait(t, "answered", func(e pidhcp.Event) bool { return true }); e.What != pidhcp.Answered || e.Interface != "eth1" {
		t.Errorf("%+v", e)
	}
}

func TestROMOnTheWire(t *testing.T) {
	b := lan(t)
	run(t, Server{Manners: offers(0, 20*time.Millisecond, 40*time.Millisecond)})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A ROM asks every 5 s. One DISCOVER may be lost while the server turns to
	// what has changed about its interface.
	first, ok := heard{}, false
	for !ok && ctx.Err() == nil {
		b.send(t, dhcptest.Packet(t, "discover-pi3-rom"))
		once, end := context.WithTimeout(ctx, 5*time.Second)
		first, ok = b.next(once, t)
		end()
	}
	for i := range 3 {
		h := first
		if i > 0 {
			h, ok = b.next(ctx, t)
		}
		if !ok {
			t.Fatalf("%d offers of 3", i)
		}
		if d := cmp.Diff(dhcptest.Packet(t, "offer-pi3-rom"), h.Payload); d != "" {
			t.Error(d)
		}
	}
}

// A relay in another subnet gets the answer at its own address and port 67.
func TestRelayed(t *testing.T) {
	nettest.Private(t)
	relay := nettest.New(t)
	cable(t, "eth0", "relay0", "02:00:00:00:00:fd", "")
	nettest.Address(t, "eth0", "10.0.0.1/24")
	move(t, "relay0", relay, "10.0.0.253/24")
	var conn *net.UDPConn
	nettest.Within(t, relay, func() {
		nettest.Address(t, "relay0", "10.20.0.1/24")
		var err error
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(ap("0.0.0.0:67")))
		must(t, err)
		nettest.Settled(t)
	})
	nettest.Settled(t)
	defer conn.Close()
	must(t, netlink.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv4(10, 20, 0, 0).To4(), Mask: net.CIDRMask(24, 32)}, Gw: net.IPv4(10, 0, 0, 253),
	}))
	r := run(t, Server{})
	_, err := conn.WriteToUDPAddrPort(dhcptest.Packet(t, "discover-pi5-relayed"), ap("10.0.0.1:67"))
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 2048)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	must(t, err)
	if d := cmp.Diff(dhcptest.Packet(t, "offer-pi5-relayed"), buf[:n]); d != "" || from != ap("10.0.0.1:67") {
		t.Errorf("from %v: %s", from, d)
	}
	r.wait(t, "answered", func(e pidhcp.Event) bool { return e.What == pidhcp.Answered })
}

// Interfaces and addresses that come, change and go are followed.
func TestInterfacesComeAndGo(t *testing.T) {
	nettest.Private(t)
	r := run(t, Server{Interfaces: []string{"eth*"}})
	is := func(what pidhcp.What, name string) func(pidhcp.Event) bool {
		return func(e pidhcp.Event) bool { return e.What == what && e.Interface == name }
	}
	pi4 := dhcptest.Packet(t, "discover-pi4")
	cable(t, "eth7", "board7", pi4MAC, "")
	nettest.Address(t, "eth7", "10.7.0.1/24")
	r.wait(t, "listening", is(pidhcp.Listening, "eth7"))
	b := newBoard(t, "board7")
	b.ask(t, pi4, "10.7.0.1")

	a, err := netlink.ParseAddr("10.7.0.1/24")
	must(t, err)
	must(t, netlink.AddrDel(nettest.Link(t, "eth7"), a))
	r.wait(t, "gone", is(pidhcp.Gone, "eth7"))
	nettest.Address(t, "eth7", "10.8.0.1/24")
	r.wait(t, "listening", is(pidhcp.Listening, "eth7"))
	b.ask(t, pi4, "10.8.0.1")

	must(t, netlink.LinkSetDown(nettest.Link(t, "eth7")))
	r.wait(t, "gone", is(pidhcp.Gone, "eth7"))
	must(t, netlink.LinkSetUp(nettest.Link(t, "eth7")))
	r.wait(t, "listening", is(pidhcp.Listening, "eth7"))
	b.ask(t, pi4, "10.8.0.1")

	must(t, netlink.LinkDel(nettest.Link(t, "eth7")))
	r.wait(t, "gone", is(pidhcp.Gone, "eth7"))
	cable(t, "eth7", "board7", pi4MAC, "")
	nettest.Address(t, "eth7", "10.9.0.1/24")
	r.wait(t, "listening", is(pidhcp.Listening, "eth7"))
	newBoard(t, "board7").ask(t, pi4, "10.9.0.1")
}

func TestBadServer(t *testing.T) {
	for name, s := range map[string]Server{
		"pattern":    {Decider: deciderFunc(always), Interfaces: []string{"eth["}},
		"no decider": {},
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.Run(t.Context()); err == nil {
				t.Error("no error")
			}
		})
	}
}
