package dhcpserver

import (
	"context"
	"io"
	"net/netip"
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
	mu     sync.Mutex
	frames []dhcplink.Datagram
	dests  []device.MAC
	routed []netip.Addr
}

func (o *fakeOutlet) Link() (dhcplink.Link, bool) { return o.l, true }

func (o *fakeOutlet) Send(_ context.Context, frame []byte) error {
	d, err := dhcplink.ParseFrame(frame)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames, o.dests = append(o.frames, d), append(o.dests, device.MAC(frame[:6]))
	return err
}

func (o *fakeOutlet) Route(_ context.Context, packet []byte, to netip.Addr) error {
	d, err := dhcplink.ParseFrame(append(make([]byte, 12), append([]byte{8, 0}, packet...)...))
	o.mu.Lock()
	defer o.mu.Unlock()
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
	b.Hear(b.t.Context(), b.out, frame(payload), false)
	return b.heard()
}

// frame is a message as a client sends it.
func frame(payload []byte) []byte {
	src := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcplink.ClientPort)
	dst := netip.AddrPortFrom(dhcplink.ToClients().Addr(), dhcplink.ServerPort)
	return dhcplink.Frame(device.MAC{2, 7, 7, 7, 7, 7}, dhcplink.Broadcast(), src, dst, payload)
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
