package proxydhcp

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// testServer is our first address.
var testServer = netip.MustParseAddr("10.0.0.1")

// fakeOutlet keeps what is sent.
type fakeOutlet struct {
	l      dhcplink.Link
	gone   bool
	err    error
	frames [][]byte
	routed [][]byte
	to     []netip.Addr
}

func (o *fakeOutlet) Link() (dhcplink.Link, bool) { return o.l, !o.gone }

func (o *fakeOutlet) Send(_ context.Context, frame []byte) error {
	o.frames = append(o.frames, frame)
	return o.err
}

func (o *fakeOutlet) Route(_ context.Context, packet []byte, to netip.Addr) error {
	o.routed, o.to = append(o.routed, packet), append(o.to, to)
	return o.err
}

// discoverFrame is the frame in which a board sends a packet.
func discoverFrame(source device.MAC, payload []byte) []byte {
	from := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcplink.ClientPort)
	to := netip.AddrPortFrom(dhcplink.ToClients().Addr(), dhcplink.ServerPort)
	return dhcplink.Frame(source, dhcplink.Broadcast(), from, to, payload)
}

// serverFrame is the frame in which a server answers.
func serverFrame(source device.MAC, server netip.Addr, payload []byte) []byte {
	return dhcplink.Frame(source, dhcplink.Broadcast(), netip.AddrPortFrom(server, dhcplink.ServerPort), dhcplink.ToClients(), payload)
}

// deciderFunc makes a Decider of a function.
type deciderFunc func(pidhcp.Sighting) pidhcp.Decision

func (f deciderFunc) Decide(_ context.Context, s pidhcp.Sighting) pidhcp.Decision { return f(s) }

func always(pidhcp.Sighting) pidhcp.Decision {
	return pidhcp.Decision{Answer: true, Why: "listed"}
}

// bench is a responder with everything around it faked.
type bench struct {
	*responder
	clock  *dhcptest.Clock
	out    *fakeOutlet
	events []pidhcp.Event
}

func newBench(s Server) *bench {
	b := &bench{clock: &dhcptest.Clock{T: time.Unix(1e9, 0)}}
	b.out = &fakeOutlet{l: dhcplink.Link{Index: 3, Name: "eth0", MAC: device.MAC{2, 0, 0, 0, 0, 1}, Addrs: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.9.1/24"),
	}}}
	s.Clock = b.clock
	s.Observe = func(e pidhcp.Event) { b.events = append(b.events, e) }
	if s.Decider == nil {
		s.Decider = deciderFunc(always)
	}
	b.responder = s.responder()
	b.Own(b.out.l.Addrs, 1)
	return b
}

func (b *bench) hear(t testing.TB, payload []byte) {
	t.Helper()
	b.Hear(t.Context(), b.out, discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, payload), false)
}

// offers are manners in which a ROM's OFFERs are sent at these times.
func offers(at ...time.Duration) *pidhcp.Manners {
	m := pidhcp.DefaultManners()
	m.ROM.Offers = at
	return &m
}

// whats are the kinds of the events so far, which it forgets.
func (b *bench) whats() []pidhcp.What {
	var w []pidhcp.What
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
		d, err := dhcplink.ParseFrame(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := dhcpv4.FromBytes(d.Payload)
		if err != nil || m.TFTPServerName() != d.Src.Addr().String() || d.Dst.String() != "255.255.255.255:68" {
			t.Fatalf("%v: %v", d.Dst, err)
		}
		s = append(s, d.Src.Addr().String())
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
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	b.clock.Pass(time.Minute)
	want(t, "servers", b.servers(t), []string{"10.0.0.1"})
	e := b.events[0]
	if e.Why != "listed" || e.Server != testServer || e.Interface != "eth0" || e.Request.Serial.String() != "91cdf03d" {
		t.Errorf("event %+v", e)
	}
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered})
}

// The ROM of a Pi 3 needs its OFFER three times; a further DISCOVER starts anew.
func TestROMTiming(t *testing.T) {
	b := newBench(Server{})
	rom := dhcptest.Packet(t, "discover-pi3-rom")
	var sent []time.Duration
	start := b.clock.T
	for _, step := range []time.Duration{0, 599, 1, 599, 1, 3800} {
		if step == 0 {
			b.hear(t, rom)
		}
		b.clock.Pass(step * time.Millisecond)
		for range b.servers(t) {
			sent = append(sent, b.clock.T.Sub(start))
		}
	}
	want(t, "times", sent, []time.Duration{0, 600 * time.Millisecond, 1200 * time.Millisecond})
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Repeated, pidhcp.Repeated})

	b.hear(t, rom)
	b.clock.Pass(700 * time.Millisecond)
	b.hear(t, rom) // the one at 1.2 s of the first is dropped
	b.clock.Pass(10 * time.Second)
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Repeated, pidhcp.Answered, pidhcp.Repeated, pidhcp.Repeated})
	if b.repeats.Pending() != 0 || b.clock.Waiting() != 0 {
		t.Errorf("%d boards pending, %d timers", b.repeats.Pending(), b.clock.Waiting())
	}
}

// The other account of the ROM: one OFFER, late.
func TestROMDelayed(t *testing.T) {
	b := newBench(Server{Manners: offers(2 * time.Second)})
	b.hear(t, dhcptest.Packet(t, "discover-pi3-rom"))
	want(t, "at once", b.whats(), nil)
	b.clock.Pass(2 * time.Second)
	want(t, "after 2 s", b.whats(), []pidhcp.What{pidhcp.Answered})
}

// Of two servers a bootcode.bin takes the one it heard last: it is told twice.
func TestBootcodeTwice(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, dhcptest.Packet(t, "discover-bootcode"))
	want(t, "at once", b.whats(), []pidhcp.What{pidhcp.Answered})
	b.clock.Pass(time.Second)
	want(t, "after 1 s", b.whats(), []pidhcp.What{pidhcp.Repeated})
}

// By default everybody hears an OFFER, for a Pi's request asks for unicast and
// may not take it; the board alone does when rubus.yaml says so.
func TestDelivery(t *testing.T) {
	for d, to := range map[pidhcp.Delivery]string{
		pidhcp.Auto: "ff:ff:ff:ff:ff:ff", pidhcp.ToAll: "ff:ff:ff:ff:ff:ff", pidhcp.ToBoard: "e4:5f:01:09:02:f7",
	} {
		m := pidhcp.DefaultManners()
		m.EEPROM.Delivery = d
		b := newBench(Server{Manners: &m})
		b.hear(t, dhcptest.Packet(t, "discover-pi4"))
		want(t, "frames", len(b.out.frames), 1)
		want(t, string(d), device.MAC(b.out.frames[0][:6]).String(), to)
		want(t, "server", b.servers(t), []string{"10.0.0.1"})
	}
}

func TestPendingIsBounded(t *testing.T) {
	b := newBench(Server{Limits: dhcplink.Limits{Pending: 2}, Manners: offers(time.Second)})
	rom := dhcptest.Packet(t, "discover-pi3-rom")
	for i := range 4 {
		b.hear(t, dhcptest.At(rom, 33, byte(i+1)))
	}
	want(t, "at once", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Answered})
	b.clock.Pass(time.Second)
	want(t, "late", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Answered})
}

func TestCloseEndsRepeats(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, dhcptest.Packet(t, "discover-pi3-rom"))
	b.repeats.Close()
	b.clock.Pass(time.Minute)
	b.hear(t, dhcptest.Packet(t, "discover-pi3-rom"))
	b.clock.Pass(time.Minute)
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered, pidhcp.Answered})
}

func TestVanishedInterface(t *testing.T) {
	b := newBench(Server{})
	b.hear(t, dhcptest.Packet(t, "discover-pi3-rom"))
	b.out.gone = true
	b.clock.Pass(time.Minute)
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	want(t, "events", b.whats(), []pidhcp.What{pidhcp.Answered})
}

func TestUnanswered(t *testing.T) {
	pi4 := dhcptest.Packet(t, "discover-pi4")
	for name, c := range map[string]struct {
		in   []byte
		want pidhcp.Event
	}{
		"iPXE":    {dhcptest.Packet(t, "discover-ipxe"), pidhcp.Event{What: pidhcp.Ignored, Reason: pidhcp.IPXE}},
		"PC":      {dhcptest.Packet(t, "discover-pc"), pidhcp.Event{What: pidhcp.Ignored, Reason: pidhcp.ForeignGUID}},
		"U-Boot":  {dhcptest.Packet(t, "discover-uboot"), pidhcp.Event{What: pidhcp.Ignored, Reason: pidhcp.NotPXE}},
		"rubbish": {[]byte("hello"), pidhcp.Event{What: pidhcp.Ignored, Reason: pidhcp.Malformed}},
		"REQUEST": {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}}), pidhcp.Event{What: pidhcp.Noted}},
		"relay at the broadcast address": {
			dhcptest.At(pi4, 24, 255, 255, 255, 255), pidhcp.Event{What: pidhcp.Noted},
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
	var seen pidhcp.Sighting
	b := newBench(Server{Decider: deciderFunc(func(s pidhcp.Sighting) pidhcp.Decision { seen = s; return pidhcp.Decision{Why: "unknown"} })})
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	if len(b.events) != 1 || b.events[0].What != pidhcp.Refused || b.events[0].Why != "unknown" || len(b.out.frames) != 0 {
		t.Errorf("events %+v", b.events)
	}
	if seen.Interface != "eth0" || seen.Server != testServer || seen.MAC.String() != "e4:5f:01:09:02:f7" || seen.Time != b.clock.T {
		t.Errorf("sighting %+v", seen)
	}
}

func TestFailedSend(t *testing.T) {
	b := newBench(Server{})
	b.out.err = errors.New("no buffer space")
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	if len(b.events) != 1 || b.events[0].What != pidhcp.Failed || !errors.Is(b.events[0].Err, b.out.err) {
		t.Errorf("events %+v", b.events)
	}
}

func TestRelayedAnswer(t *testing.T) {
	b := newBench(Server{})
	f := discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, dhcptest.Packet(t, "discover-pi5-relayed"))
	b.Hear(t.Context(), b.out, dhcptest.At(f, 30, 10, 0, 9, 1), false) // sent to our second address
	if len(b.out.frames) != 0 || len(b.out.routed) != 1 || b.out.to[0] != netip.MustParseAddr("10.20.0.1") {
		t.Fatalf("broadcast %d, routed %d to %v", len(b.out.frames), len(b.out.routed), b.out.to)
	}
	d, err := dhcplink.ParseFrame(append(f[:14:14], b.out.routed[0]...))
	if err != nil || d.Src.String() != "10.0.9.1:67" || d.Dst.String() != "10.20.0.1:67" {
		t.Errorf("%v -> %v, %v", d.Src, d.Dst, err)
	}
}

func TestDeciderNamesTheSubnet(t *testing.T) {
	b := newBench(Server{Decider: deciderFunc(func(pidhcp.Sighting) pidhcp.Decision {
		return pidhcp.Decision{Answer: true, Client: netip.MustParseAddr("10.0.9.3")}
	})})
	b.hear(t, dhcptest.Packet(t, "discover-pi4"))
	want(t, "server", b.servers(t), []string{"10.0.9.1"})
}

func TestFlood(t *testing.T) {
	decided := 0
	b := newBench(Server{
		Decider: deciderFunc(func(pidhcp.Sighting) pidhcp.Decision { decided++; return pidhcp.Decision{Answer: true} }),
		Limits:  dhcplink.Limits{PerBoard: 3, Total: 40},
	})
	pi4 := dhcptest.Packet(t, "discover-pi4")
	for range 100 {
		b.hear(t, pi4)
	}
	want(t, "answers to one board", len(b.out.frames), 3)
	want(t, "decisions", decided, 3)
	b.clock.Pass(2 * time.Second)
	for range 100 {
		b.hear(t, pi4)
	}
	want(t, "answers after 2 s", len(b.out.frames), 5)
	b.clock.Pass(time.Minute)
	b.out.frames = nil
	for i := range 500 {
		b.hear(t, dhcptest.At(pi4, 32, byte(i>>8), byte(i)))
	}
	want(t, "answers to all", len(b.out.frames), 40)
}
