package dhcpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// Prober asks on the link for an address.
type Prober interface {
	// InUse says whether another than the client answers, and who. It may take
	// part of a second.
	InUse(ctx context.Context, addr netip.Addr, client device.MAC) (other device.MAC, used bool)
}

// Server gives out addresses on the links that have an address in the pool's
// subnet, and tells the firmware of Pis where their files are. Set the fields
// before Run; those without a default are required.
type Server struct {
	// Interfaces are as those of dhcplink.Listener.
	Interfaces []string
	Pool       Pool
	// Dir is where leases are kept: a directory for them alone.
	Dir string
	// Decider says which boards are told to boot from here. A Pi's firmware that
	// is not gets no address either: it could do nothing with it.
	Decider   pidhcp.Decider
	Directory Directory
	Prober    Prober
	// Force serves although another DHCP server is heard.
	Force bool
	// Manners say how each kind of firmware is answered; nil: DefaultManners.
	Manners *pidhcp.Manners
	Logger  *slog.Logger
	// Observe, when not nil, is told every event. It must not block.
	Observe func(pidhcp.Event)
	// Problem, when not nil, is told why no addresses are given out on an
	// interface, and "" when they are again.
	Problem func(iface, why string)
	// Clock is the time; nil: the real one.
	Clock  dhcplink.Clock
	Limits dhcplink.Limits
	// Listen is how long to hear for other DHCP servers before the first
	// answer (default 4 s), Again when to try anew after one was heard (1 min).
	Listen, Again time.Duration
	// Ready, when not nil, is called once, when all interfaces that could be
	// heard at the start are.
	Ready func()
}

// Run serves until ctx ends, which is no error. Leases are on disk before they
// are acknowledged; one that was may be renewed while the disk is full.
func (s *Server) Run(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	h, err := s.handler(ctx, g.Go)
	if err != nil {
		return err
	}
	defer h.close()
	g.Go(func() error {
		l := dhcplink.Listener{Interfaces: s.Interfaces, Handler: h, Logger: h.log, Ready: func() {
			h.ready()
			if s.Ready != nil {
				s.Ready()
			}
		}}
		return l.Run(ctx)
	})
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Server) check() error {
	switch p := s.Pool; {
	case s.Decider == nil || s.Directory == nil || s.Prober == nil || s.Dir == "":
		return errors.New("a DHCP server needs a Decider, a Directory, a Prober and a Dir")
	case !p.First.Is4() || !p.Last.Is4() || p.Last.Less(p.First):
		return fmt.Errorf("a pool from %v to %v makes no sense", p.First, p.Last)
	case p.size() > MaxPool:
		return fmt.Errorf("a pool of %d addresses: at most %d", p.size(), MaxPool)
	case p.Lease < time.Minute:
		return fmt.Errorf("a lease of %v: at least a minute", p.Lease)
	}
	return nil
}

// MaxPool is the largest number of addresses.
const MaxPool = 4096

// keepLeases is how long the file of a lease that is over is kept: its client
// gets the same address when it comes back.
const keepLeases = 30 * 24 * time.Hour

// handler makes the server without its sockets. Goroutines are begun by spawn
// and end with ctx.
func (s *Server) handler(ctx context.Context, spawn func(func() error)) (*handler, error) {
	limits, disk := s.Limits.WithDefaults(), store{filepath.Clean(s.Dir)}
	h := &handler{
		ctx: ctx, spawn: spawn, pool: s.Pool, decider: s.Decider, dir: s.Directory, prober: s.Prober, force: s.Force,
		clock: s.Clock, log: s.Logger, observe: s.Observe, problem: s.Problem, manners: pidhcp.DefaultManners(),
		listen: s.Listen, again: s.Again, limit: dhcplink.NewLimiter(limits), hold: holdPort, save: disk.save,
		probing: make(chan struct{}, maxProbes), saves: newSaves(), links: map[string]*served{}, own: map[netip.Addr]int{},
	}
	if s.Manners != nil {
		h.manners = *s.Manners
	}
	if h.clock == nil {
		h.clock = dhcplink.SystemClock{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.listen == 0 {
		h.listen = 4 * time.Second
	}
	if h.again == 0 {
		h.again = time.Minute
	}
	h.repeats = dhcplink.NewRepeats(h.clock, limits.Pending)
	leases, err := disk.load(h.clock.Now(), keepLeases, h.log)
	if err != nil {
		return nil, err
	}
	soonEnough(leases, h.clock.Now(), s.Pool.Lease)
	h.book = newBook(s.Pool, s.Directory, leases)
	return h, nil
}

// soonEnough cuts short what was written while the clock was ahead, by years on a
// machine whose battery is empty: it would keep addresses for as long.
func soonEnough(leases []Lease, now time.Time, lease time.Duration) {
	for i := range leases {
		l := &leases[i]
		latest := now.Add(max(keepLeases, lease))
		if l.State == Conflict {
			latest = now.Add(conflictHold)
		}
		if l.Until.After(latest) {
			l.Until = latest
		}
	}
}
