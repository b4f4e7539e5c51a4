package proxydhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/boot/netwatch"
	"rubus/config/device"
)

// Server answers the boot requests of Pis on the links of this host. It uses
// packet sockets: it needs no port and changes nothing for a DHCP server on
// the same host or link. Set the fields before Run; only Decider is required.
type Server struct {
	// Interfaces are names, or patterns of names as path.Match has them; none:
	// every Ethernet interface that is up and has an IPv4 address.
	Interfaces []string
	// Address, when valid, is the only address to answer from; only the
	// interface that has it is served.
	Address netip.Addr
	Decider Decider
	// Logger is told of every event, of packets at debug level; nil: nobody.
	Logger *slog.Logger
	// Observe, when not nil, is told every event. It must not block.
	Observe func(Event)
	// Clock is the time; nil: the real one.
	Clock Clock
	// ROMDelays say when after its DISCOVER a Pi 3's ROM is sent its OFFER,
	// which it takes in only when another packet follows in good time; nil: at
	// once, after 600 ms and after 1.2 s. Some reports say that one OFFER after
	// 2 s is right.
	ROMDelays []time.Duration
	// Limits bound the answers to a flood.
	Limits Limits
	// Ready, when not nil, is called once, when all interfaces that could be
	// served at the start are.
	Ready func()
}

// defaultROMDelays are those that openSUSE/netboot-rpi3b found.
func defaultROMDelays() []time.Duration {
	return []time.Duration{0, 600 * time.Millisecond, 1200 * time.Millisecond}
}

// Run serves until ctx ends, which is no error. Interfaces and addresses that
// come and go are followed. It fails when it lacks the right to open packet
// sockets; that there is no interface yet is only logged.
func (s *Server) Run(ctx context.Context) error {
	if s.Decider == nil {
		return errors.New("a proxydhcp server needs a Decider")
	}
	for _, p := range s.Interfaces {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("interface pattern %q: %w", p, err)
		}
	}
	routed, err := routeSocket()
	if err != nil {
		return err
	}
	defer routed.Close()
	r := s.responder()
	defer r.close()
	g, ctx := errgroup.WithContext(ctx)
	f := &follower{
		responder: r, routed: routed, group: g,
		selection: selection{patterns: s.Interfaces, pin: s.Address},
		ports:     map[int]*port{}, changed: make(chan struct{}, 1),
	}
	g.Go(func() error { return netwatch.Run(ctx, f.look) })
	g.Go(func() error { return f.follow(ctx, s.Ready) })
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Server) responder() *responder {
	r := &responder{
		decider: s.Decider, clock: s.Clock, log: s.Logger, observe: s.Observe, pin: s.Address,
		delays: s.ROMDelays, limit: newLimiter(s.Limits.withDefaults()),
		own: map[netip.Addr]int{}, pending: map[device.MAC]*offers{},
	}
	if r.clock == nil {
		r.clock = systemClock{}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.delays == nil {
		r.delays = defaultROMDelays()
	}
	return r
}

// follower keeps one port open for each link that is to be served.
type follower struct {
	*responder
	selection selection
	routed    *socket.Conn
	group     *errgroup.Group
	changed   chan struct{} // holds a token when links must be looked at

	ports map[int]*port // follow's alone
}

// look has follow look at the links again. It does not block.
func (f *follower) look() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// follow opens and closes ports as links come and go.
func (f *follower) follow(ctx context.Context, ready func()) error {
	defer func() {
		for _, p := range f.ports {
			p.close(nil)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.changed:
		}
		links, addrs, err := kernelLinks()
		if err != nil {
			return err
		}
		if err := f.apply(ctx, f.selection.choose(links, addrs)); err != nil {
			return err
		}
		if ready != nil {
			if len(f.ports) == 0 {
				f.log.Warn("no network interface to listen on yet", "interfaces", f.selection.patterns, "address", f.selection.pin)
			}
			ready()
			ready = nil
		}
	}
}

// apply makes the ports those of want. Only a refused right is an error: a
// link that vanished meanwhile is reported by the watch again.
func (f *follower) apply(ctx context.Context, want map[int]link) error {
	for index, p := range f.ports {
		l, ok := want[index]
		now, _ := p.link()
		switch {
		case !ok || p.dead.Load() || l.name != now.name:
			p.close(nil)
			delete(f.ports, index)
		case l.mac != now.mac || !slices.Equal(l.addrs, now.addrs):
			p.set(&l)
		}
	}
	for index, l := range want {
		if f.ports[index] != nil {
			continue
		}
		c, err := listenLink(index)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return err
		}
		if err != nil {
			f.log.Debug("cannot listen", "interface", l.name, "error", err)
			continue
		}
		p := &port{follower: f, conn: c}
		p.set(&l)
		f.ports[index] = p
		f.tell(Event{What: Listening, Time: f.clock.Now(), Interface: l.name, Server: l.addrs[0].Addr()})
		f.group.Go(func() error { p.read(ctx); return nil })
	}
	return nil
}

// port is one link that is served. It is the outlet for what it hears.
type port struct {
	*follower
	conn *socket.Conn
	now  atomic.Pointer[link]
	once sync.Once
	dead atomic.Bool
}

func (p *port) link() (link, bool) {
	if l := p.now.Load(); l != nil {
		return *l, true
	}
	return link{}, false
}

// set replaces what is known of the link; nil: it is gone.
func (p *port) set(l *link) {
	if l != nil {
		p.owns(l.addrs, 1)
	}
	if old := p.now.Swap(l); old != nil {
		p.owns(old.addrs, -1)
	}
}

func (p *port) broadcast(ctx context.Context, frame []byte) error {
	l, ok := p.link()
	if !ok {
		return errors.New("the interface is gone")
	}
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: l.index, Halen: 6}
	copy(to.Addr[:], frame[:6])
	return p.conn.Sendto(ctx, frame, 0, to)
}

func (p *port) route(ctx context.Context, packet []byte, to netip.Addr) error {
	return sendRouted(ctx, p.routed, packet, to)
}

// read hears frames until the socket is closed.
func (p *port) read(ctx context.Context) {
	buf := make([]byte, maxFrame)
	for {
		n, from, err := p.conn.Recvfrom(ctx, buf, 0)
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once; the socket hears again when the link is up
		}
		if err != nil {
			if _, open := p.link(); open && ctx.Err() == nil {
				p.dead.Store(true)
				p.close(err)
				p.look()
			}
			return
		}
		sa, ok := from.(*unix.SockaddrLinklayer)
		p.handle(ctx, p, buf[:n], ok && sa.Pkttype == unix.PACKET_OUTGOING)
	}
}

// close ends a port, for a reason or because it is no longer wanted.
func (p *port) close(err error) {
	p.once.Do(func() {
		l, _ := p.link()
		p.set(nil)
		_ = p.conn.Close()
		p.tell(Event{What: Gone, Time: p.clock.Now(), Interface: l.name, Err: err})
	})
}
