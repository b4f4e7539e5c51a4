package dhcplink

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

	"github.com/mdlayher/socket"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/boot/netwatch"
)

// Outlet is where a message came in and its answer goes out.
type Outlet interface {
	// Link is the interface as it is now; ok is false once it is gone.
	Link() (l Link, ok bool)
	// Send sends an Ethernet frame.
	Send(ctx context.Context, frame []byte) error
	// Route sends an IPv4 packet wherever it is addressed to.
	Route(ctx context.Context, packet []byte, to netip.Addr) error
}

// Handler is told what a Listener hears. Its methods are called from one
// goroutine for each interface.
type Handler interface {
	// Hear gets an Ethernet frame with a UDP datagram to port 67 or 68, of which
	// nothing else was checked. outgoing says that this host sent it. The
	// frame's bytes are used again when Hear returns.
	Hear(ctx context.Context, out Outlet, frame []byte, outgoing bool)
	// Changed says that a link is heard from now, or has other addresses, or is
	// heard no longer, with the error
	// that ended it, if one did.
	Changed(out Outlet, l Link, served bool, err error)
	// Own tells of addresses of this host: by is 1 for one more link that has
	// them, -1 for one less.
	Own(addrs []netip.Prefix, by int)
}

// Listener hears DHCP on links. It uses packet sockets: it needs no port and
// changes nothing for a DHCP server on the same host or link. Set the fields
// before Run; only Handler is required.
type Listener struct {
	// Interfaces are names, or patterns of names as path.Match has them; none:
	// every Ethernet interface that is up and has an IPv4 address.
	Interfaces []string
	// Address, when valid, is the only address to answer from; only the
	// interface that has it is served.
	Address netip.Addr
	Handler Handler
	// Logger is told of links that cannot be served; nil: nobody.
	Logger *slog.Logger
	// Ready, when not nil, is called once, when all interfaces that could be
	// served at the start are.
	Ready func()
}

// Run listens until ctx ends, which is no error. Interfaces and addresses that
// come and go are followed. It fails when it lacks the right to open packet
// sockets; that there is no interface yet is only logged.
func (l *Listener) Run(ctx context.Context) error {
	for _, p := range l.Interfaces {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("interface pattern %q: %w", p, err)
		}
	}
	routed, err := routeSocket()
	if err != nil {
		return err
	}
	defer routed.Close()
	g, ctx := errgroup.WithContext(ctx)
	f := &follower{
		Handler: l.Handler, log: l.Logger, routed: routed, group: g,
		selection: selection{patterns: l.Interfaces, pin: l.Address},
		ports:     map[int]*port{}, changed: make(chan struct{}, 1),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	g.Go(func() error { return netwatch.Run(ctx, f.look) })
	g.Go(func() error { return f.follow(ctx, l.Ready) })
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// follower keeps one port open for each link that is to be served.
type follower struct {
	Handler
	log       *slog.Logger
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
func (f *follower) apply(ctx context.Context, want map[int]Link) error {
	for index, p := range f.ports {
		l, ok := want[index]
		now, _ := p.Link()
		switch {
		case !ok || p.dead.Load() || l.Name != now.Name:
			p.close(nil)
			delete(f.ports, index)
		case l.MAC != now.MAC || !slices.Equal(l.Addrs, now.Addrs):
			p.set(&l)
			f.Changed(p, l, true, nil)
		}
	}
	for index, l := range want {
		if f.ports[index] != nil {
			continue
		}
		c, err := Listen(index)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return err
		}
		if err != nil {
			f.log.Debug("cannot listen", "interface", l.Name, "error", err)
			continue
		}
		p := &port{follower: f, conn: c}
		p.set(&l)
		f.ports[index] = p
		f.Changed(p, l, true, nil)
		f.group.Go(func() error { p.read(ctx); return nil })
	}
	return nil
}

// port is one link that is served. It is the outlet for what it hears.
type port struct {
	*follower
	conn *socket.Conn
	now  atomic.Pointer[Link]
	once sync.Once
	dead atomic.Bool
}

// Link implements Outlet.
func (p *port) Link() (Link, bool) {
	if l := p.now.Load(); l != nil {
		return *l, true
	}
	return Link{}, false
}

// set replaces what is known of the link; nil: it is gone.
func (p *port) set(l *Link) {
	if l != nil {
		p.Own(l.Addrs, 1)
	}
	if old := p.now.Swap(l); old != nil {
		p.Own(old.Addrs, -1)
	}
}

// Send implements Outlet.
func (p *port) Send(ctx context.Context, frame []byte) error {
	l, ok := p.Link()
	if !ok {
		return errGone
	}
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: l.Index, Halen: 6}
	copy(to.Addr[:], frame[:6])
	return p.conn.Sendto(ctx, frame, 0, to)
}

// Route implements Outlet.
func (p *port) Route(ctx context.Context, packet []byte, to netip.Addr) error {
	return sendRouted(ctx, p.routed, packet, to)
}

// read hears frames until the socket is closed.
func (p *port) read(ctx context.Context) {
	buf := make([]byte, MaxFrame)
	for {
		n, from, err := p.conn.Recvfrom(ctx, buf, 0)
		if errors.Is(err, unix.ENETDOWN) {
			continue // told once; the socket hears again when the link is up
		}
		if err != nil {
			if _, open := p.Link(); open && ctx.Err() == nil {
				p.dead.Store(true)
				p.close(err)
				p.look()
			}
			return
		}
		sa, ok := from.(*unix.SockaddrLinklayer)
		p.Hear(ctx, p, buf[:n], ok && sa.Pkttype == unix.PACKET_OUTGOING)
	}
}

// close ends a port, for a reason or because it is no longer wanted.
func (p *port) close(err error) {
	p.once.Do(func() {
		l, _ := p.Link()
		p.set(nil)
		_ = p.conn.Close()
		p.Changed(p, l, false, err)
	})
}

var errGone = errors.New("the interface is gone")
