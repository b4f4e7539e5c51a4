package proxydhcp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/config/device"
)

// fakeClock runs timers when it is told that time passes.
type fakeClock struct {
	now    time.Time
	timers []*fakeTimer
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func (c *fakeClock) Now() time.Time { return c.now }

func (c *fakeClock) AfterFunc(d time.Duration, f func()) func() bool {
	t := &fakeTimer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		i := slices.Index(c.timers, t)
		if i >= 0 {
			c.timers = slices.Delete(c.timers, i, i+1)
		}
		return i >= 0
	}
}

// pass lets time go by up to the given instant, timer by timer.
func (c *fakeClock) pass(d time.Duration) {
	end := c.now.Add(d)
	for {
		slices.SortStableFunc(c.timers, func(a, b *fakeTimer) int { return a.at.Compare(b.at) })
		if len(c.timers) == 0 || c.timers[0].at.After(end) {
			break
		}
		t := c.timers[0]
		c.timers = c.timers[1:]
		c.now = t.at
		t.f()
	}
	c.now = end
}

// fakeOutlet keeps what is sent.
type fakeOutlet struct {
	l      link
	gone   bool
	err    error
	frames [][]byte
	routed [][]byte
	to     []netip.Addr
}

func (o *fakeOutlet) link() (link, bool) { return o.l, !o.gone }

func (o *fakeOutlet) broadcast(_ context.Context, frame []byte) error {
	o.frames = append(o.frames, frame)
	return o.err
}

func (o *fakeOutlet) route(_ context.Context, packet []byte, to netip.Addr) error {
	o.routed, o.to = append(o.routed, packet), append(o.to, to)
	return o.err
}

// deciderFunc makes a Decider of a function.
type deciderFunc func(Sighting) Decision

func (f deciderFunc) Decide(_ context.Context, s Sighting) Decision { return f(s) }

func always(Sighting) Decision { return Decision{Answer: true, Why: "listed"} }

// bench is a responder with everything around it faked.
type bench struct {
	*responder
	clock  *fakeClock
	out    *fakeOutlet
	events []Event
}

func newBench(s Server) *bench {
	b := &bench{clock: &fakeClock{now: time.Unix(1e9, 0)}}
	b.out = &fakeOutlet{l: link{index: 3, name: "eth0", mac: device.MAC{2, 0, 0, 0, 0, 1}, addrs: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.9.1/24"),
	}}}
	s.Clock = b.clock
	s.Observe = func(e Event) { b.events = append(b.events, e) }
	if s.Decider == nil {
		s.Decider = deciderFunc(always)
	}
	b.responder = s.responder()
	b.owns(b.out.l.addrs, 1)
	return b
}

func (b *bench) hear(t testing.TB, payload []byte) {
	t.Helper()
	b.handle(t.Context(), b.out, discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, payload), false)
}

// whats are the kinds of the events so far, which it forgets.
func (b *bench) whats() []What {
	var w []What
	for _, e := range b.events {
		w = append(w, e.What)
	}
	b.events = nil
	return w
}

// servers are the source addresses of the frames so far, which it forgets.
func (b *bench) servers(t testing.TB) []string {
	t.Helper()
	var s []string
	for _, f := range b.out.frames {
		d, err := parseFrame(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := dhcpv4.FromBytes(d.payload)
		if err != nil || m.TFTPServerName() != d.src.Addr().String() || d.dst.String() != "255.255.255.255:68" {
			t.Fatalf("%v: %v", d.dst, err)
		}
		s = append(s, d.src.Addr().String())
	}
	b.out.frames = nil
	return s
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func TestAnswerOnce(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, packet(t, "discover-pi4"))
	b.clock.pass(time.Minute)
	want(t, "servers", b.servers(t), []string{"10.0.0.1"})
	e := b.events[0]
	if e.Why != "listed" || e.Server != testServer || e.Interface != "eth0" || e.Request.Serial.String() != "91cdf03d" {
		t.Errorf("event %+v", e)
	}
	want(t, "events", b.whats(), []What{Answered})
}

// The ROM of a Pi 3 needs its OFFER three times; a further DISCOVER starts anew.
func TestROMTiming(t *testing.T) {
	b := newBench(Server{})
	rom := packet(t, "discover-pi3-rom")
	var sent []time.Duration
	start := b.clock.now
	for _, step := range []time.Duration{0, 599, 1, 599, 1, 3800} {
		if step == 0 {
			b.hear(t, rom)
		}
		b.clock.pass(step * time.Millisecond)
		for range b.servers(t) {
			sent = append(sent, b.clock.now.Sub(start))
		}
	}
	want(t, "times", sent, []time.Duration{0, 600 * time.Millisecond, 1200 * time.Millisecond})
	want(t, "events", b.whats(), []What{Answered, Repeated, Repeated})

	b.hear(t, rom)
	b.clock.pass(700 * time.Millisecond)
	b.hear(t, rom) // the one at 1.2 s of the first is dropped
	b.clock.pass(10 * time.Second)
	want(t, "events", b.whats(), []What{Answered, Repeated, Answered, Repeated, Repeated})
	if len(b.pending) != 0 || len(b.clock.timers) != 0 {
		t.Errorf("%d boards pending, %d timers", len(b.pending), len(b.clock.timers))
	}
}

// The other account of the ROM: one OFFER, late.
func TestROMDelayed(t *testing.T) {
	b := newBench(Server{ROMDelays: []time.Duration{2 * time.Second}})
	b.hear(t, packet(t, "discover-pi3-rom"))
	want(t, "at once", b.whats(), nil)
	b.clock.pass(2 * time.Second)
	want(t, "after 2 s", b.whats(), []What{Answered})
}

func TestPendingIsBounded(t *testing.T) {
	b := newBench(Server{Limits: Limits{Pending: 2}, ROMDelays: []time.Duration{time.Second}})
	rom := packet(t, "discover-pi3-rom")
	for i := range 4 {
		b.hear(t, at(rom, 33, byte(i+1)))
	}
	want(t, "at once", b.whats(), []What{Answered, Answered})
	b.clock.pass(time.Second)
	want(t, "late", b.whats(), []What{Answered, Answered})
}

func TestCloseEndsRepeats(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, packet(t, "discover-pi3-rom"))
	b.close()
	b.clock.pass(time.Minute)
	b.hear(t, packet(t, "discover-pi3-rom"))
	b.clock.pass(time.Minute)
	want(t, "events", b.whats(), []What{Answered, Answered})
}

func TestVanishedInterface(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, packet(t, "discover-pi3-rom"))
	b.out.gone = true
	b.clock.pass(time.Minute)
	b.hear(t, packet(t, "discover-pi4"))
	want(t, "events", b.whats(), []What{Answered})
}

func TestUnanswered(t *testing.T) {
	pi4 := packet(t, "discover-pi4")
	for name, c := range map[string]struct {
		in   []byte
		want Event
	}{
		"iPXE":    {packet(t, "discover-ipxe"), Event{What: Ignored, Reason: IPXE}},
		"PC":      {packet(t, "discover-pc"), Event{What: Ignored, Reason: ForeignGUID}},
		"U-Boot":  {packet(t, "discover-uboot"), Event{What: Ignored, Reason: NotPXE}},
		"rubbish": {[]byte("hello"), Event{What: Ignored, Reason: Malformed}},
		"REQUEST": {edit(t, pi4, map[uint8][]byte{53: {3}}), Event{What: Noted}},
		"relay at the broadcast address": {
			at(pi4, 24, 255, 255, 255, 255), Event{What: Noted},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Server{})
			b.hear(t, c.in)
			if len(b.events) != 1 || b.events[0].What != c.want.What || b.events[0].Reason != c.want.Reason {
				t.Errorf("events %+v", b.events)
			}
			want(t, "frames", len(b.out.frames)+len(b.out.routed), 0)
		})
	}
}

func TestRefused(t *testing.T) {
	var seen Sighting
	b := newBench(Server{Decider: deciderFunc(func(s Sighting) Decision { seen = s; return Decision{Why: "unknown"} })})
	b.hear(t, packet(t, "discover-pi4"))
	if len(b.events) != 1 || b.events[0].What != Refused || b.events[0].Why != "unknown" || len(b.out.frames) != 0 {
		t.Errorf("events %+v", b.events)
	}
	if seen.Interface != "eth0" || seen.Server != testServer || seen.MAC.String() != "e4:5f:01:09:02:f7" || seen.Time != b.clock.now {
		t.Errorf("sighting %+v", seen)
	}
}

func TestFailedSend(t *testing.T) {
	b := newBench(Server{})
	b.out.err = errors.New("no buffer space")
	b.hear(t, packet(t, "discover-pi4"))
	if len(b.events) != 1 || b.events[0].What != Failed || !errors.Is(b.events[0].Err, b.out.err) {
		t.Errorf("events %+v", b.events)
	}
}

func TestRelayedAnswer(t *testing.T) {
	b := newBench(Server{})
	f := discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, packet(t, "discover-pi5-relayed"))
	b.handle(t.Context(), b.out, at(f, 30, 10, 0, 9, 1), false) // sent to our second address
	if len(b.out.frames) != 0 || len(b.out.routed) != 1 || b.out.to[0] != netip.MustParseAddr("10.20.0.1") {
		t.Fatalf("broadcast %d, routed %d to %v", len(b.out.frames), len(b.out.routed), b.out.to)
	}
	d, err := parseFrame(append(f[:14:14], b.out.routed[0]...))
	if err != nil || d.src.String() != "10.0.9.1:67" || d.dst.String() != "10.20.0.1:67" {
		t.Errorf("%v -> %v, %v", d.src, d.dst, err)
	}
}

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
	return broadcastFrame([6]byte{2, 0, 0, 0, 0, 2}, netip.MustParseAddr(server), o.ToBytes())
}

func TestOtherOffer(t *testing.T) {
	b := newBench(Server{})
	pi4 := packet(t, "discover-pi4")
	offer := otherOffer(t, pi4, "10.0.0.254", "10.0.9.77", dhcpv4.WithOption(dhcpv4.OptTFTPServerName("10.0.0.253")))
	b.handle(t.Context(), b.out, offer, true)
	want(t, "events", len(b.events), 1)
	e := b.events[0]
	b.events = nil
	wantOffer := Offer{
		Type: dhcpv4.MessageTypeOffer, Client: mac(t, "e4:5f:01:09:02:f7"),
		Source: netip.MustParseAddr("10.0.0.254"), ServerID: netip.MustParseAddr("10.0.0.254"),
		Address: netip.MustParseAddr("10.0.9.77"), BootServer: "10.0.0.253", SameHost: true,
	}
	if e.What != OtherOffer || e.Offer != wantOffer {
		t.Errorf("event %+v", e)
	}
	// It will be in our second subnet: it is answered from there now.
	b.hear(t, pi4)
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
	// What other requests of this host say is not ours to answer.
	b.handle(t.Context(), b.out, discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, packet(t, "discover-pi4-2021")), true)
	want(t, "events", b.whats(), []What{Answered})
}

// A late OFFER to a ROM knows where the board will be.
func TestAddressIsChosenLate(t *testing.T) {
	b := newBench(Server{})
	rom := packet(t, "discover-pi3-rom")
	b.hear(t, rom)
	b.handle(t.Context(), b.out, otherOffer(t, rom, "10.0.0.254", "10.0.9.77"), false)
	b.clock.pass(time.Second)
	want(t, "servers", b.servers(t), []string{"10.0.0.1", "10.0.9.1"})
}

func TestOwnVoice(t *testing.T) {
	b := newBench(Server{})
	frame := broadcastFrame([6]byte{2, 0, 0, 0, 0, 1}, testServer, packet(t, "offer-pi4"))
	b.handle(t.Context(), b.out, frame, true)
	b.handle(t.Context(), b.out, frame, false)
	want(t, "events", b.whats(), nil)
	b.owns(b.out.l.addrs, -1) // another rubus, which has that address now
	b.handle(t.Context(), b.out, frame, false)
	if len(b.events) != 1 || b.events[0].What != OtherOffer || !b.events[0].Offer.PiBoot {
		t.Errorf("events %+v", b.events)
	}
}

func TestDeciderNamesTheSubnet(t *testing.T) {
	b := newBench(Server{Decider: deciderFunc(func(Sighting) Decision {
		return Decision{Answer: true, Client: netip.MustParseAddr("10.0.9.3")}
	})})
	b.hear(t, packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
}

func TestPinnedAddress(t *testing.T) {
	b := newBench(Server{Address: netip.MustParseAddr("10.0.9.1")})
	b.hear(t, packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
	b.out.l.addrs = b.out.l.addrs[:1]
	b.hear(t, packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), nil)
}

func TestFlood(t *testing.T) {
	decided := 0
	b := newBench(Server{
		Decider: deciderFunc(func(Sighting) Decision { decided++; return Decision{Answer: true} }),
		Limits:  Limits{PerBoard: 3, Total: 40},
	})
	pi4 := packet(t, "discover-pi4")
	for range 100 {
		b.hear(t, pi4)
	}
	want(t, "answers to one board", len(b.out.frames), 3)
	want(t, "decisions", decided, 3)
	b.clock.pass(2 * time.Second)
	for range 100 {
		b.hear(t, pi4)
	}
	want(t, "answers after 2 s", len(b.out.frames), 5)
	b.clock.pass(time.Minute)
	b.out.frames = nil
	for i := range 500 {
		b.hear(t, at(pi4, 32, byte(i>>8), byte(i)))
	}
	want(t, "answers to all", len(b.out.frames), 40)
}
