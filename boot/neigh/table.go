package neigh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"rubus/config/device"
)

// State is what the kernel's neighbour table says of an address.
type State uint8

// The states. Those from Stale on come with a MAC.
const (
	// Unreachable is an address off the link, or one of our own: it has no
	// neighbour.
	Unreachable State = iota
	// Absent: the table has no entry.
	Absent
	// Incomplete: it is being asked for.
	Incomplete
	// Failed: nobody answered.
	Failed
	// Stale: known, but not confirmed lately.
	Stale
	// Reachable: confirmed lately, or fixed by an administrator.
	Reachable
)

// String is the state in one word.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Incomplete:
		return "incomplete"
	case Failed:
		return "failed"
	case Stale:
		return "stale"
	case Reachable:
		return "reachable"
	}
	return "unreachable"
}

var (
	// ErrNotIPv4 says that an address is no IPv4 address; boards have no other.
	ErrNotIPv4 = errors.New("not an IPv4 address")
	// ErrNoAnswer says that nobody on the link has an address.
	ErrNoAnswer = errors.New("nobody on the link has the address")
	// ErrOffLink says that an address is not on one of our links.
	ErrOffLink = errors.New("the address is not on a link of this host")
)

// Options change how long a Table asks and remembers. A zero field takes its
// default.
type Options struct {
	// Remember is how long Owner and OnLink trust what they found (default 2 s).
	Remember time.Duration
	// Wait bounds Resolve and Owner (default 1 s).
	Wait time.Duration
	// Probes are sent by Probe (default 5), one every Interval (default 1 s).
	Probes   int
	Interval time.Duration
	// Refresh is how often a pinned entry is confirmed (default 5 s). It must
	// be shorter than the kernel's reachable time, 15 s or more by default.
	Refresh time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger is told about pins; nil: nobody.
	Logger *slog.Logger
}

// Bounds of what a Table keeps, whatever it is asked.
const (
	maxOwners   = 4096
	maxResolves = 32
	maxLinks    = 64
)

// Table asks the kernel and the links of the network namespace it is used in.
// It keeps no socket open. Its methods may be called at once from anywhere.
type Table struct {
	opt    Options
	log    *slog.Logger
	asking chan struct{} // holds a token for each Resolve that Owner waits for

	owners *recent[netip.Addr, device.MAC] // zero: nobody
	routes *recent[netip.Addr, route]
	links  *recent[int, netlink.LinkAttrs]

	mu   sync.Mutex
	pins map[netip.Addr]*pin
}

// New makes a Table. It needs Close only if Pin was called.
func New(opt Options) *Table {
	defaults := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	defaults(&opt.Remember, 2*time.Second)
	defaults(&opt.Wait, time.Second)
	defaults(&opt.Interval, time.Second)
	defaults(&opt.Refresh, 5*time.Second)
	if opt.Probes == 0 {
		opt.Probes = 5
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	t := &Table{
		opt: opt, log: opt.Logger, asking: make(chan struct{}, maxResolves),
		owners: newRecent[netip.Addr, device.MAC](maxOwners), routes: newRecent[netip.Addr, route](maxOwners),
		links: newRecent[int, netlink.LinkAttrs](maxLinks), pins: map[netip.Addr]*pin{},
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

// route is how the kernel reaches an address, or reached it a moment ago. A board asks
// for thirty files, and at each it is asked several times whether it is on the link.
func (t *Table) route(ip netip.Addr) (route, error) {
	ip = ip.Unmap()
	now := t.opt.Now()
	if r, ok := t.routes.get(ip, now); ok {
		return r, nil
	}
	r, err := routeBy(ip, t.link)
	if err == nil {
		t.routes.put(ip, r, now.Add(t.opt.Remember))
	}
	return r, err
}

// link is what an interface is, or was a moment ago: boards that come together are all
// behind one. That it has no carrier is not remembered: what cannot be asked there is
// given out.
func (t *Table) link(index int) (netlink.LinkAttrs, error) {
	now := t.opt.Now()
	if l, ok := t.links.get(index, now); ok {
		return l, nil
	}
	l, err := linkOf(index)
	if err != nil {
		return l, err
	}
	if _, err := carrierOf(&l); err == nil {
		t.links.put(index, l, now.Add(t.opt.Remember))
	}
	return l, nil
}

// Lookup is what the kernel's table has for an address now; nothing is sent. The way
// there is remembered as it is for OnLink. The MAC is zero for states before Stale.
func (t *Table) Lookup(_ context.Context, ip netip.Addr) (device.MAC, State, error) {
	r, err := t.route(ip)
	if err != nil {
		return device.MAC{}, Unreachable, err
	}
	if !r.onLink {
		return device.MAC{}, Unreachable, nil
	}
	return r.neighbour()
}

// OnLink says whether an address is reached without a router, by Ethernet. Our own
// addresses are not. An answer is remembered for Options.Remember.
func (t *Table) OnLink(ip netip.Addr) bool {
	r, err := t.route(ip)
	return err == nil && r.onLink
}

// Resolve is who has an address on the link. What the kernel knows is taken;
// else it is made to ask by ARP, and Resolve waits for Options.Wait at most.
func (t *Table) Resolve(ctx context.Context, ip netip.Addr) (device.MAC, error) {
	r, err := routeTo(ip)
	if err != nil {
		return device.MAC{}, err
	}
	if !r.onLink {
		return device.MAC{}, fmt.Errorf("resolving %v: %w", ip, ErrOffLink)
	}
	ctx, cancel := context.WithTimeout(ctx, t.opt.Wait)
	defer cancel()
	mac, err := r.resolve(ctx)
	if err != nil {
		return device.MAC{}, fmt.Errorf("resolving %v: %w", ip, err)
	}
	return mac, nil
}

// Owner is the MAC that has an address on the link; ok is false when nobody
// has it, or it is off the link. It is for every new connection: an answer is
// remembered for Options.Remember (that nobody has it: until the kernel has heard
// somebody who does), and only an address that the kernel does
// not know takes time, Options.Wait at most.
func (t *Table) Owner(ctx context.Context, ip netip.Addr) (mac device.MAC, ok bool) {
	ip = ip.Unmap()
	mac, known := t.owners.get(ip, t.opt.Now())
	if known && !mac.IsZero() {
		return mac, true
	}
	mac, state, err := t.Lookup(ctx, ip)
	if err != nil || state == Unreachable {
		return device.MAC{}, false
	}
	if mac.IsZero() && known {
		return mac, false // asked a moment ago, and no frame of its came since
	}
	if mac.IsZero() {
		select {
		case t.asking <- struct{}{}:
		default:
			return device.MAC{}, false // a flood of addresses that are nobody's
		}
		mac, err = t.Resolve(ctx, ip)
		<-t.asking
		if err != nil && ctx.Err() != nil {
			return device.MAC{}, false // nobody waited for the answer
		}
	}
	t.owners.put(ip, mac, t.opt.Now().Add(t.opt.Remember))
	return mac, !mac.IsZero()
}
