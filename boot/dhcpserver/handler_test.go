package dhcpserver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// A reservation that is of no use here is said once, and its board gets another address.
func TestReservationElsewhere(t *testing.T) {
	mac := client("a")
	dir := &fakeDirectory{reserved: map[device.MAC]netip.Addr{mac: netip.MustParseAddr("172.16.0.7")}}
	var log bytes.Buffer
	b := newBench(t, "", func(s *Server) {
		s.Directory, s.Logger = dir, slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 3 {
		got := b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
		if len(got) != 1 || got[0].YourIPAddr.String() != "10.0.0.10" {
			t.Fatalf("%v", got)
		}
	}
	if n := strings.Count(log.String(), "cannot be given out here: it gets another"); n != 1 || !strings.Contains(log.String(), "address=172.16.0.7 network=10.0.0.0/24") {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	// Moved to another useless address, and then to a good one.
	dir.reserved[mac] = netip.MustParseAddr("10.0.0.1")
	b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
	if !strings.Contains(log.String(), "address=10.0.0.1 ") {
		t.Errorf("the server's own address: nothing is said:\n%s", log.String())
	}
	dir.reserved[mac] = netip.MustParseAddr("10.0.0.77")
	if got := b.say(message(t, mac, dhcpv4.MessageTypeDiscover)); len(got) != 1 || got[0].YourIPAddr.String() != "10.0.0.77" {
		t.Errorf("%v", got)
	}
}

// An ordinary client gets a lease with everything a system wants, by unicast
// unless it asks for broadcast, and nothing that speaks of network boot.
func TestOrdinaryClient(t *testing.T) {
	b := newBench(t, "", nil)
	mac := client("a")
	got := b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
	if len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeOffer || got[0].YourIPAddr.String() != "10.0.0.10" {
		t.Fatalf("%v", got)
	}
	want(t, "destination", b.out.dests, []device.MAC{mac})
	b.out.dests = nil
	got = b.say(message(t, mac, dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1"), dhcpv4.WithBroadcast(true)))
	if len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("%v", got)
	}
	want(t, "destination", b.out.dests, []device.MAC{dhcplink.Broadcast()})
	m := got[0]
	if m.YourIPAddr.String() != "10.0.0.10" || m.ServerIdentifier().String() != "10.0.0.1" || m.IPAddressLeaseTime(0) != time.Hour ||
		net4(m.SubnetMask()) != "255.255.255.0" || m.Router()[0].String() != "10.0.0.1" || m.DNS()[0].String() != "9.9.9.9" ||
		m.DomainName() != "lab" || string(m.Options.Get(dhcpv4.OptionClientIdentifier)) != "\xff\x01\x02" {
		t.Error(m.Summary())
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionTFTPServerName, dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier} {
		if m.Options.Has(code) {
			t.Errorf("option %v in a plain lease", code)
		}
	}
	if !m.ServerIPAddr.IsUnspecified() {
		t.Errorf("siaddr %v in a plain lease", m.ServerIPAddr)
	}
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Acked})

	// Renewing: to the address that the client has.
	b.out.dests = nil
	got = b.say(message(t, mac, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(netip.MustParseAddr("10.0.0.10").AsSlice())))
	if len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeAck || b.out.dests[0] != (device.MAC{2, 7, 7, 7, 7, 7}) {
		t.Errorf("%v to %v", got, b.out.dests)
	}
	// A refusal is for everybody to hear, and says nothing else.
	b.out.dests = nil
	got = b.say(message(t, client("b"), dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1")))
	if len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeNak || !got[0].YourIPAddr.IsUnspecified() || got[0].Options.Has(dhcpv4.OptionSubnetMask) {
		t.Errorf("%v", got)
	}
	want(t, "destination", b.out.dests, []device.MAC{dhcplink.Broadcast()})
	// INFORM: options only.
	got = b.say(message(t, client("b"), dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(netip.MustParseAddr("10.0.0.77").AsSlice())))
	if len(got) != 1 || !got[0].YourIPAddr.IsUnspecified() || got[0].Options.Has(dhcpv4.OptionIPAddressLeaseTime) || got[0].DomainName() != "lab" {
		t.Errorf("%v", got)
	}
	l := b.book.byMAC[mac]
	if l.Host != "laptopx" {
		t.Errorf("host %q", l.Host)
	}
}

func net4(m []byte) string { return netip.AddrFrom4([4]byte(m)).String() }

// A Pi's firmware gets one OFFER with an address and where to boot from, in the
// bytes that dnsmasq sends, and the same in the ACK.
func TestFirmware(t *testing.T) {
	mac := dhcptest.MAC(t, "e4:5f:01:09:02:f7")
	b := newBench(t, "", func(s *Server) {
		s.Directory = &fakeDirectory{reserved: map[device.MAC]netip.Addr{mac: netip.MustParseAddr("10.0.0.50")}}
	})
	pi4 := dhcptest.Packet(t, "discover-pi4")
	got := b.say(pi4)
	if len(got) != 1 {
		t.Fatal(got)
	}
	want(t, "OFFER", b.last, dhcptest.Packet(t, "server-offer-pi4"))
	ack := b.say(dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 60: nil, 50: {10, 0, 0, 50}, 54: {10, 0, 0, 1}}))
	if len(ack) != 1 || ack[0].MessageType() != dhcpv4.MessageTypeAck {
		t.Fatal(ack)
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionTFTPServerName, dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier, dhcpv4.OptionClientMachineIdentifier} {
		if !slices.Equal(ack[0].Options.Get(code), got[0].Options.Get(code)) {
			t.Errorf("option %v: OFFER %x, ACK %x", code, got[0].Options.Get(code), ack[0].Options.Get(code))
		}
	}
	if ack[0].ServerIPAddr.String() != "10.0.0.1" || !slices.Equal(ack[0].YourIPAddr, got[0].YourIPAddr) {
		t.Error(ack[0].Summary())
	}
	// Its system, with other words and the same card, has the same address.
	plain := b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
	if len(plain) != 1 || !plain[0].YourIPAddr.Equal(got[0].YourIPAddr) || plain[0].Options.Has(dhcpv4.OptionTFTPServerName) {
		t.Errorf("%v", plain)
	}
}

// The ACK can do without, for whoever wants to know whether an EEPROM reads it.
func TestPlainACK(t *testing.T) {
	m := pidhcp.DefaultManners()
	m.PlainACK = true
	b := newBench(t, "", func(s *Server) { s.Manners = &m })
	pi4 := dhcptest.Packet(t, "discover-pi4")
	offer := b.say(pi4)
	ack := b.say(dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 50: offer[0].YourIPAddr.To4(), 54: {10, 0, 0, 1}}))
	if len(ack) != 1 || ack[0].MessageType() != dhcpv4.MessageTypeAck || ack[0].Options.Has(dhcpv4.OptionTFTPServerName) || !offer[0].Options.Has(dhcpv4.OptionTFTPServerName) {
		t.Error(ack)
	}
}

// The ROM of a Pi 3 is sent its OFFER three times, to its own card: others take
// any OFFER for theirs. Its address is kept on disk, for it asks no more.
func TestROM(t *testing.T) {
	b := newBench(t, "", nil)
	rom := dhcptest.Packet(t, "discover-pi3-rom")
	got := b.say(rom)
	b.clock.Pass(2 * time.Second)
	got = append(got, b.heard()...)
	if len(got) != 3 || !got[0].YourIPAddr.Equal(got[2].YourIPAddr) || got[0].YourIPAddr.IsUnspecified() {
		t.Fatalf("%v", got)
	}
	for _, d := range b.out.dests {
		want(t, "destination", d.String(), "b8:27:eb:6c:4c:16")
	}
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Repeated, pidhcp.Repeated})
	again := newBench(t, b.state, nil)
	boot := again.say(dhcptest.Packet(t, "discover-bootcode"))
	if len(boot) != 1 || !boot[0].YourIPAddr.Equal(got[0].YourIPAddr) {
		t.Errorf("after a kill: %v", boot)
	}
	// REQUEST and the like end what is still to be sent.
	again.say(message(t, dhcptest.MAC(t, "b8:27:eb:6c:4c:16"), dhcpv4.MessageTypeRequest, requested(boot[0].YourIPAddr.String()), ofServer("10.0.0.1")))
	again.clock.Pass(time.Minute)
	if late := again.heard(); len(late) != 0 {
		t.Errorf("after the REQUEST: %v", late)
	}
}

// A board that is not to boot gets nothing, nor does a flood.
func TestRefusedAndLimited(t *testing.T) {
	b := newBench(t, "", func(s *Server) {
		s.Decider = deciderFunc(func(pidhcp.Sighting) bool { return false })
		s.Limits = dhcplink.Limits{PerBoard: 2, Total: 10}
	})
	if got := b.say(dhcptest.Packet(t, "discover-pi4")); len(got) != 0 || len(b.book.byAddr) != 0 {
		t.Errorf("%v", got)
	}
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Refused})
	n := 0
	for range 20 {
		n += len(b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover)))
	}
	want(t, "answers to one", n, 2)
}

// Another address of ours in the range is given to nobody: the link cannot be
// asked for it.
func TestOwnAddressInRange(t *testing.T) {
	b := newBench(t, "", nil)
	b.out.l.Addrs = append(b.out.l.Addrs, netip.MustParsePrefix("10.0.0.10/24"))
	got := b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover, requested("10.0.0.10")))
	if len(got) != 1 || got[0].YourIPAddr.String() == "10.0.0.10" {
		t.Errorf("%v", got)
	}
}

func TestLeasesOnDisk(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir, nil)
	mac := client("a")
	b.say(message(t, mac, dhcpv4.MessageTypeDiscover, requested("10.0.0.12")))
	b.say(message(t, mac, dhcpv4.MessageTypeRequest, requested("10.0.0.12"), ofServer("10.0.0.1")))
	for name, text := range map[string]string{
		"10.0.0.11.json":        `{"address":"10.0.0.11","mac":"02:00:00:00:00:99","state":"bound","until":"2001-09-09T`,
		".10.0.0.12.json123456": "half", "notes.txt": "mine", "10.0.0.10.json": strings.Repeat("x", 1<<20),
		"10.0.0.9.json": `{"address":"10.0.0.8","mac":"02:00:00:00:00:99","state":"bound","until":"2031-09-09T00:00:00Z"}`,
		"10.0.0.7.json": `{"address":"10.0.0.7","mac":"02:00:00:00:00:98","state":"bound","until":"2001-01-01T00:00:00Z"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := newBench(t, dir, nil)
	want(t, "leases", len(again.book.byAddr), 1)
	if l := again.book.byMAC[mac]; l == nil || l.Address.String() != "10.0.0.12" || l.State != Bound || l.Host != "laptopx" {
		t.Errorf("%+v", l)
	}
	if all, err := Leases(dir); err != nil || len(all) != 1 || all[0].MAC != mac || all[0].Over(b.clock.Now()) {
		t.Errorf("%+v, %v", all, err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want(t, "files", left, []string{"10.0.0.10.json", "10.0.0.11.json", "10.0.0.12.json", "10.0.0.9.json", "notes.txt"})
}

// A link without an address of the pool's network is no business of ours.
func TestOtherLinks(t *testing.T) {
	b := newBench(t, "", nil)
	b.out.l.Addrs = b.out.l.Addrs[:1]
	if got := b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover)); len(got) != 0 || len(b.events) != 0 {
		t.Errorf("%v, %v", got, b.events)
	}
}

// A link that gets an address of the pool's network is served from then on, and
// another address that comes or goes ends nothing.
func TestAddressComesLater(t *testing.T) {
	b := newBench(t, "", nil)
	all := b.out.l.Addrs
	change := func(addrs ...netip.Prefix) {
		b.out.l.Addrs = addrs
		b.Changed(b.out, b.out.l, true, nil)
		b.heard()
	}
	answers := func() int { return len(b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover))) }
	change(all[1:]...)
	want(t, "without another network's address", answers(), 1)
	change(all[0])
	want(t, "without its address", answers(), 0)
	want(t, "links that are served", len(b.links), 0)
	change(all...)
	b.clock.Pass(time.Minute)
	b.heard()
	want(t, "with its address again", answers(), 1)
}

// A relay of this network gets the answer; one of another has no addresses here.
func TestRelay(t *testing.T) {
	b := newBench(t, "", nil)
	in := message(t, client("a"), dhcpv4.MessageTypeDiscover, dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 1, 7}))
	got := b.say(dhcptest.At(in, 24, 10, 0, 0, 250))
	if len(got) != 1 || len(b.out.routed) != 1 || b.out.routed[0].String() != "10.0.0.250" || string(got[0].Options.Get(dhcpv4.OptionRelayAgentInformation)) != "\x01\x01\x07" {
		t.Errorf("%v to %v", got, b.out.routed)
	}
	if got := b.say(dhcptest.At(in, 24, 10, 9, 0, 250)); len(got) != 0 || b.events[len(b.events)-1].Reason != pidhcp.OtherSubnet {
		t.Errorf("%v", got)
	}
}

// An address that is used by somebody without a lease is passed over.
func TestConflict(t *testing.T) {
	b := newBench(t, "", func(s *Server) {
		s.Prober = proberFunc(func(a netip.Addr) bool { return a.String() == "10.0.0.10" })
	})
	got := b.say(message(t, client("a"), dhcpv4.MessageTypeDiscover))
	if len(got) != 1 || got[0].YourIPAddr.String() != "10.0.0.11" {
		t.Errorf("%v", got)
	}
	if _, err := os.Stat(filepath.Join(b.state, "10.0.0.10.json")); err != nil {
		t.Errorf("the conflict is not kept: %v", err)
	}
}

// A rack gets power: while addresses are looked for on the link, as many boards as there
// are ask, and no one has to ask again.
func TestRackGetsPower(t *testing.T) {
	const boards = 230
	b := newBench(t, "", func(s *Server) { s.Pool.Last = netip.MustParseAddr("10.0.0.250") })
	var looks []func() error
	b.handler.spawn = func(f func() error) { looks = append(looks, f) }
	for i := range boards {
		b.say(message(t, device.MAC{2, 9, 9, 0, 0, byte(i)}, dhcpv4.MessageTypeDiscover))
	}
	for _, look := range looks {
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.out.frames); n != boards {
		t.Errorf("%d of %d boards were offered an address", n, boards)
	}
}

func TestBadServer(t *testing.T) {
	good := func() Server {
		return Server{
			Pool: testPool, Dir: t.TempDir(), Decider: deciderFunc(func(pidhcp.Sighting) bool { return true }),
			Directory: &fakeDirectory{}, Prober: proberFunc(func(netip.Addr) bool { return false }),
		}
	}
	for name, change := range map[string]func(*Server){
		"no decider": func(s *Server) { s.Decider = nil }, "no directory": func(s *Server) { s.Dir = "" },
		"backwards": func(s *Server) { s.Pool.First, s.Pool.Last = s.Pool.Last, s.Pool.First },
		"too large": func(s *Server) { s.Pool.Last = netip.MustParseAddr("10.0.200.1") },
		"no time":   func(s *Server) { s.Pool.Lease = time.Second },
	} {
		s := good()
		change(&s)
		if err := s.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
