package dhcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// fakeOutlet keeps what is sent.
type fakeOutlet struct {
	l      dhcplink.Link
	frames []dhcplink.Datagram
	dests  []device.MAC
	routed []netip.Addr
}

func (o *fakeOutlet) Link() (dhcplink.Link, bool) { return o.l, true }

func (o *fakeOutlet) Send(_ context.Context, frame []byte) error {
	d, err := dhcplink.ParseFrame(frame)
	o.frames, o.dests = append(o.frames, d), append(o.dests, device.MAC(frame[:6]))
	return err
}

func (o *fakeOutlet) Route(_ context.Context, packet []byte, to netip.Addr) error {
	d, err := dhcplink.ParseFrame(append(make([]byte, 12), append([]byte{8, 0}, packet...)...))
	o.frames, o.dests, o.routed = append(o.frames, d), append(o.dests, device.MAC{}), append(o.routed, to)
	return err
}

type deciderFunc func(pidhcp.Sighting) bool

func (f deciderFunc) Decide(_ context.Context, s pidhcp.Sighting) pidhcp.Decision {
	return pidhcp.Decision{Answer: f(s), Why: "said so"}
}

type proberFunc func(netip.Addr) bool

func (f proberFunc) InUse(_ context.Context, a netip.Addr, _ device.MAC) (device.MAC, bool) {
	return device.MAC{2, 9, 9, 9, 9, 9}, f(a)
}

// bench is a handler with everything around it faked.
type bench struct {
	*handler
	t      testing.TB
	clock  *dhcptest.Clock
	out    *fakeOutlet
	events []pidhcp.Event
	state  string
	why    string
	last   []byte // the last answer
}

// newBench makes a server that has found no other one; leases are in dir, "" for
// a new one.
func newBench(t testing.TB, dir string, change func(*Server)) *bench {
	t.Helper()
	b := newAsking(t, dir, change)
	b.clock.Pass(time.Minute)
	if why := b.silent("eth0"); why != "" {
		t.Fatal(why)
	}
	b.out.frames, b.out.dests, b.events = nil, nil, nil
	return b
}

// newAsking makes a server that still asks for others.
func newAsking(t testing.TB, dir string, change func(*Server)) *bench {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	b := &bench{t: t, clock: &dhcptest.Clock{T: time.Unix(1e9, 0)}, state: dir}
	b.out = &fakeOutlet{l: dhcplink.Link{Index: 3, Name: "eth0", MAC: device.MAC{2, 0, 0, 0, 0, 1}, Addrs: []netip.Prefix{
		netip.MustParsePrefix("192.168.5.1/24"), netip.MustParsePrefix("10.0.0.1/24"),
	}}}
	pool := testPool
	pool.Router, pool.DNS, pool.Domain = testSubnet.own, []netip.Addr{netip.MustParseAddr("9.9.9.9")}, "lab"
	s := &Server{
		Pool: pool, Dir: dir, Clock: b.clock, Directory: &fakeDirectory{},
		Decider: deciderFunc(func(pidhcp.Sighting) bool { return true }), Prober: proberFunc(func(netip.Addr) bool { return false }),
		Observe: func(e pidhcp.Event) { b.events = append(b.events, e) },
		Problem: func(_, why string) { b.why = why },
	}
	if change != nil {
		change(s)
	}
	h, err := s.handler(t.Context(), func(f func() error) { _ = f() })
	if err != nil {
		t.Fatal(err)
	}
	h.hold = func(string, netip.Addr) (io.Closer, error) { return io.NopCloser(nil), nil }
	b.handler = h
	h.Own(b.out.l.Addrs, 1)
	h.Changed(b.out, b.out.l, true, nil)
	return b
}

// say has a client of the link send a message, and gives the answers.
func (b *bench) say(payload []byte) []*dhcpv4.DHCPv4 {
	b.t.Helper()
	src := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcplink.ClientPort)
	dst := netip.AddrPortFrom(dhcplink.ToClients().Addr(), dhcplink.ServerPort)
	b.Hear(b.t.Context(), b.out, dhcplink.Frame(device.MAC{2, 7, 7, 7, 7, 7}, dhcplink.Broadcast(), src, dst, payload), false)
	return b.heard()
}

func (b *bench) heard() []*dhcpv4.DHCPv4 {
	b.t.Helper()
	var out []*dhcpv4.DHCPv4
	for _, d := range b.out.frames {
		m, err := dhcpv4.FromBytes(d.Payload)
		if err != nil {
			b.t.Fatal(err)
		}
		out, b.last = append(out, m), d.Payload
	}
	b.out.frames = nil
	return out
}

func (b *bench) whats() []pidhcp.What {
	var w []pidhcp.What
	for _, e := range b.events {
		w = append(w, e.What)
	}
	b.events = nil
	return w
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// message is that of an ordinary client.
func message(t testing.TB, mac device.MAC, kind dhcpv4.MessageType, change ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(mac.HardwareAddr()), dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptHostName("laptop \"x\"")), dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, []byte{255, 1, 2}),
	}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.ToBytes()
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(netip.MustParseAddr(a).AsSlice()))
}

func ofServer(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(netip.MustParseAddr(a).AsSlice()))
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
// bytes that dnsmasq and PIBOOT have, and the same in the ACK.
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

// FuzzHear: whatever is heard, an address is one client's and in the pool, and
// every answer can be read.
func FuzzHear(f *testing.F) {
	for _, name := range dhcptest.Names(f) {
		f.Add(dhcptest.Packet(f, name))
		f.Add(dhcptest.Edit(f, dhcptest.Packet(f, name), map[uint8][]byte{53: {3}, 50: {10, 0, 0, 10}, 54: {10, 0, 0, 1}}))
	}
	f.Add(message(f, client("a"), dhcpv4.MessageTypeDecline, requested("10.0.0.10")))
	dir := f.TempDir()
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		b := newBench(t, dir, func(s *Server) { s.Force = true })
		b.save = func(l Lease) error {
			text, err := json.Marshal(l)
			if err == nil {
				_, err = parseLease(l.Address, text)
			}
			if err != nil {
				t.Errorf("a lease that cannot be read again: %+v, %v", l, err)
			}
			return nil
		}
		for range 2 {
			for _, m := range b.say(payload) {
				if y := m.YourIPAddr; !y.IsUnspecified() && !testPool.has(netip.AddrFrom4([4]byte(y.To4()))) {
					t.Errorf("gave %v", y)
				}
			}
		}
		b.clock.Pass(time.Minute)
		for addr, l := range b.book.byAddr {
			if !testPool.has(addr) || !l.MAC.IsZero() && b.book.byMAC[l.MAC] != l {
				t.Errorf("%v: %+v", addr, l)
			}
		}
	})
}

func FuzzParseLease(f *testing.F) {
	f.Add([]byte(`{"address":"10.0.0.9","mac":"02:00:00:00:00:99","state":"bound","until":"2031-09-09T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		addr := netip.MustParseAddr("10.0.0.9")
		l, err := parseLease(addr, b)
		if err == nil && (l.Address != addr || l.MAC.IsZero() != (l.State == Conflict) || len(l.Host) > 63) {
			t.Errorf("%+v", l)
		}
	})
}
