package dhcpserver

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// offerOf is another server's OFFER.
func (b *bench) offerOf(server, yiaddr string) {
	b.t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(client("a").HardwareAddr()), dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
		dhcpv4.WithYourIP(netip.MustParseAddr(yiaddr).AsSlice()), ofServer(server))
	if err != nil {
		b.t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	src := netip.AddrPortFrom(netip.MustParseAddr(server), dhcplink.ServerPort)
	b.Hear(b.t.Context(), b.out, dhcplink.Frame(device.MAC{2, 6, 6, 6, 6, 6}, dhcplink.Broadcast(), src, dhcplink.ToClients(), m.ToBytes()), false)
}

// Before the first answer it asks for other servers, and one that answers keeps
// it silent until it is gone.
func TestRival(t *testing.T) {
	b := newAsking(t, "", nil)
	discover := message(t, client("a"), dhcpv4.MessageTypeDiscover)
	asked := b.heard()
	if len(asked) != 1 || asked[0].MessageType() != dhcpv4.MessageTypeDiscover || !asked[0].IsBroadcast() {
		t.Fatalf("no DISCOVER of its own: %v", asked)
	}
	if got := b.say(discover); len(got) != 0 {
		t.Errorf("answers while it asks: %v", got)
	}
	b.clock.Pass(time.Second)
	b.offerOf("10.0.0.254", "10.0.0.99")
	b.clock.Pass(3 * time.Second)
	b.heard()
	if got := b.say(discover); len(got) != 0 || !strings.Contains(b.why, "10.0.0.254") || !strings.Contains(b.why, "02:06:06:06:06:06") {
		t.Errorf("beside another server: %v, %q", got, b.why)
	}
	if e := b.events[len(b.events)-1]; e.What != pidhcp.Unserved || !strings.Contains(e.Why, "10.0.0.254") {
		t.Errorf("%+v", e)
	}
	// A minute later it is gone.
	b.clock.Pass(time.Minute + 4*time.Second)
	b.heard()
	if got := b.say(discover); len(got) != 1 || b.why != "" {
		t.Errorf("after it: %v, %q", got, b.why)
	}
	// One that comes later does not end the service: boards have their leases here.
	b.offerOf("10.0.0.254", "10.0.0.99")
	if got := b.say(message(t, client("b"), dhcpv4.MessageTypeDiscover)); len(got) != 1 {
		t.Errorf("beside a newcomer: %v", got)
	}
	if e := b.events; !slices.ContainsFunc(e, func(e pidhcp.Event) bool {
		return e.What == pidhcp.OtherOffer && e.Offer.Source.String() == "10.0.0.254"
	}) {
		t.Error("the newcomer's OFFER is no event")
	}
}

// A proxy is no rival: it gives out no addresses. Nor are we.
func TestNoRival(t *testing.T) {
	b := newAsking(t, "", nil)
	b.offerOf("10.0.0.253", "0.0.0.0")
	b.offerOf("10.0.0.1", "10.0.0.99")
	b.clock.Pass(4 * time.Second)
	if why := b.silent("eth0"); why != "" {
		t.Error(why)
	}
}

func TestForce(t *testing.T) {
	b := newAsking(t, "", func(s *Server) { s.Force = true })
	b.offerOf("10.0.0.254", "10.0.0.99")
	if got := b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover)); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// Another server on this host has the port.
func TestPortHeld(t *testing.T) {
	b := newAsking(t, "", nil)
	b.leave("eth0")
	b.hold = func(string, netip.Addr) (io.Closer, error) { return nil, errPortHeld }
	b.Changed(b.out, b.out.l, true, nil)
	b.clock.Pass(time.Minute)
	if why := b.silent("eth0"); !strings.Contains(why, "port 67 of 10.0.0.1") {
		t.Errorf("%q", why)
	}
}
