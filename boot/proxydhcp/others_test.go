package proxydhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
)

// otherOffer is what the site's DHCP server says to a board.
func otherOffer(t testing.TB, client []byte, server, yiaddr string, options ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.FromBytes(client)
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr(server).AsSlice()
	o, err := dhcpv4.NewReplyFromRequest(m, append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
		dhcpv4.WithYourIP(netip.MustParseAddr(yiaddr).AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip)))...)
	if err != nil {
		t.Fatal(err)
	}
	return serverFrame([6]byte{2, 0, 0, 0, 0, 2}, netip.MustParseAddr(server), o.ToBytes())
}

func TestOtherOffer(t *testing.T) {
	b := newBench(Server{})
	pi4 := dhcptest.Packet(t, "discover-pi4")
	offer := otherOffer(t, pi4, "10.0.0.254", "10.0.9.77", dhcpv4.WithOption(dhcpv4.OptTFTPServerName("10.0.0.253")))
	b.Hear(t.Context(), b.out, offer, true)
	want(t, "events", len(b.events), 1)
	e := b.events[0]
	b.events = nil
	wantOffer := pidhcp.Offer{
		Type: dhcpv4.MessageTypeOffer, Client: dhcptest.MAC(t, "e4:5f:01:09:02:f7"),
		Source: netip.MustParseAddr("10.0.0.254"), ServerID: netip.MustParseAddr("10.0.0.254"),
		Address: netip.MustParseAddr("10.0.9.77"), BootServer: "10.0.0.253", SameHost: true,
	}
	if e.What != pidhcp.OtherOffer || e.Offer != wantOffer {
		t.Errorf("event %+v", e)
	}
	// It will be in our second subnet: it is answered from there now.
	b.hear(t, pi4)
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
	// pidhcp.What other requests of this host say is not ours to answer.
	b.Hear(t.Context(), b.out, discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, dhcptest.Packet(t, "discover-pi4-2021")), true)
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered})
}

// A late OFFER to a ROM knows where the board will be.
func TestAddressIsChosenLate(t *testing.T) {
	b := newBench(Server{})
	rom := dhcptest.Packet(t, "discover-pi3-rom")
	b.hear(t, rom)
	b.Hear(t.Context(), b.out, otherOffer(t, rom, "10.0.0.254", "10.0.9.77"), false)
	b.clock.Pass(time.Second)
	want(t, "servers", b.servers(t), []string{"10.0.0.1", "10.0.9.1"})
}

func TestOwnVoice(t *testing.T) {
	b := newBench(Server{})
	frame := serverFrame([6]byte{2, 0, 0, 0, 0, 1}, testServer, dhcptest.Packet(t, "offer-pi4"))
	b.Hear(t.Context(), b.out, frame, true)
	b.Hear(t.Context(), b.out, frame, false)
	want(t, "events", b.whats(), nil)
	b.Own(b.out.l.Addrs, -1) // another rubus, which has that address now
	b.Hear(t.Context(), b.out, frame, false)
	if len(b.events) != 1 || b.events[0].What != pidhcp.OtherOffer || !b.events[0].Offer.PiBoot {
		t.Errorf("events %+v", b.events)
	}
}

func TestPinnedAddress(t *testing.T) {
	b := newBench(Server{Address: netip.MustParseAddr("10.0.9.1")})
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
	b.out.l.Addrs = b.out.l.Addrs[:1]
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), nil)
}
