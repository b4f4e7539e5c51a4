package sunrpc

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config is what a Server is made of.
type Config struct {
	// Programs are all it serves.
	Programs []Program
	// Cache keeps the replies to calls that must not be done twice; nil: such
	// calls are done again. The Server does not close it.
	Cache *Cache
	// Log gets one line for each call that panicked, and reasons for cut
	// connections at debug level; nil: silent.
	Log *slog.Logger
	// Observe is told of every call, in the goroutine that ran it; nil: nobody.
	Observe func(Event)
	// DatagramFrom says whether datagrams from an address are looked at; nil:
	// all are. It must be quick. An answer to a forged address hits somebody
	// else, so it is best to answer only neighbours.
	DatagramFrom func(netip.Addr) bool
	// Known says whether somebody from an address is expected to call; nil: all are.
	// Others are served with what is not needed for those: an eighth of Limits.Bytes and of
	// Limits.Calls more between them, no Pipes, and a place only until somebody known needs it.
	// It must be quick.
	Known func(netip.Addr) bool
	// Threads is told of calls that hold a thread and do not use a processor; nil: nobody.
	Threads Threads
	// Limits bound it.
	Limits Limits
}

// Threads lets others run while calls wait. It must be quick.
type Threads interface {
	// Waits says that n more calls wait, see Call.Waits; less than 0: that so many are over.
	Waits(n int)
	// Late says that a call takes long, which has not said whether it waits.
	Late()
}

type noThreads struct{}

func (noThreads) Waits(int) {}
func (noThreads) Late()     {}

// Server serves RPC programs on the listeners it is given.
type Server struct {
	programs     []program
	cache        *Cache
	log          *slog.Logger
	observe      func(Event)
	datagramFrom func(netip.Addr) bool
	known        func(netip.Addr) bool
	threads      Threads
	limits       Limits
	seed         maphash.Seed // of sum

	pool   pool
	pipes  pipes
	jobs   sync.Pool
	parts  sync.Pool
	all    purses // of long calls that may run, and of bytes of large buffers
	little purses // those of strangers
	dgrams senders
	inline atomic.Int64 // cheap calls that run
	watch  watch
	tasks  chan func()  // to goroutines that wait for something to do
	idle   atomic.Int64 // how many wait
	peers  peers

	started  time.Time
	sweeping atomic.Bool  // a Serve keeps the clock
	clock    atomic.Int64 // nanoseconds since started, at the last tick; never 0
	stopping atomic.Bool
	stop     chan struct{} // closed when stopping
}

// Stats are figures of a running Server.
type Stats struct {
	// Conns is the number of connections now.
	Conns int
	// Refused counts connections not let in, Evicted those cut to let another
	// of the same address in.
	Refused, Evicted uint64
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{
		cache: cfg.Cache, log: cfg.Log, observe: cfg.Observe, datagramFrom: cfg.DatagramFrom,
		limits: cfg.Limits.withDefaults(), started: time.Now(), stop: make(chan struct{}),
		tasks: make(chan func()), seed: maphash.MakeSeed(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, p := range cfg.Programs {
		low, high := p.Versions()
		joiner, _ := p.(Joiner)
		s.programs = append(s.programs, program{p, joiner, p.Number(), low, high})
	}
	if s.known = cfg.Known; s.known == nil {
		s.known = func(netip.Addr) bool { return true }
	}
	if s.threads = cfg.Threads; s.threads == nil {
		s.threads = noThreads{}
	}
	s.watch.every = watchTick
	s.pool.largeSize = max(s.limits.Record, mediumBuffer+1)
	s.all, s.little = s.newPurses(1), s.newPurses(8)
	s.pipes.most, s.pipes.each = s.limits.Pipes, max(s.limits.Pipes/4, 1)
	s.dgrams = senders{of: make(map[netip.Addr]*holding), all: newPurse(datagramCalls, datagramsEach, partOfDatagrams)}
	s.peers.byAddr, s.peers.running = make(map[netip.Addr]*peer), make(map[ends]*conn)
	s.clock.Store(1)
	return s
}

// Stats gives the figures of now.
func (s *Server) Stats() Stats {
	s.peers.mu.Lock()
	defer s.peers.mu.Unlock()
	return Stats{Conns: s.peers.total, Refused: s.peers.refused, Evicted: s.peers.evicted}
}

// Serve serves streams and datagrams from the given listeners, which it closes,
// until Shutdown has ended all calls (then it gives nil), ctx ends (connections
// are cut, answered or not), or a listener breaks. It may be called again with
// other listeners while it runs: all calls of it end together, for whichever of
// these reasons. Connections must be sockets; packets must come from a
// *net.UDPConn.
func (s *Server) Serve(ctx context.Context, streams []net.Listener, packets []net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(streams)+len(packets))
	var listening sync.WaitGroup
	for _, l := range streams {
		listening.Go(func() { errs <- s.accept(ctx, l) })
	}
	for _, pc := range packets {
		listening.Go(func() { errs <- s.datagrams(ctx, pc) })
	}
	var sweeping sync.WaitGroup
	if s.sweeping.CompareAndSwap(false, true) {
		// The first Serve's is for all: it lasts until nobody is inside.
		sweeping.Go(func() { s.sweepUntil(ctx) })
	}

	var err error
	select {
	case err = <-errs: // nil only when stopping
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.stop:
	}
	s.begin()
	for _, l := range streams {
		_ = l.Close()
	}
	for _, pc := range packets {
		// Not closed yet: calls in flight have replies to send.
		_ = pc.SetReadDeadline(time.Unix(1, 0))
	}
	listening.Wait()
	if err != nil {
		cancel()
		s.cutAll()
	}
	s.wake()
	s.peers.inside.Wait()
	s.pipes.close()
	for _, pc := range packets {
		_ = pc.Close()
	}
	cancel()
	sweeping.Wait()
	return err
}

// Shutdown stops accepting and reading, lets the calls in flight end and be
// answered, and closes all connections. When ctx ends first, it cuts them and
// gives ctx's error. Serve returns when all is over.
func (s *Server) Shutdown(ctx context.Context) error {
	s.begin()
	over := make(chan struct{})
	go func() {
		s.peers.inside.Wait()
		close(over)
	}()
	s.wake()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		s.cutAll()
		return ctx.Err()
	}
}

// begin begins to stop. It may be called repeatedly.
func (s *Server) begin() {
	s.peers.close()
	if s.stopping.CompareAndSwap(false, true) {
		close(s.stop)
	}
}

// wake makes all readers see that the server is stopping.
func (s *Server) wake() {
	for _, c := range s.peers.list() {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

func (s *Server) cutAll() {
	for _, c := range s.peers.list() {
		c.cut()
	}
}

// accept lets connections in until l is closed.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	var pause time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.enter(ctx, nc)
		case s.stopping.Load():
			return nil
		case transient(err):
			// Out of descriptors or memory: those that are in will go.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Debug("accepting", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.stop:
			}
		default:
			return err
		}
	}
}

// transient says whether accept(2) may work again later.
func transient(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// enter starts to serve a connection, or closes it.
func (s *Server) enter(ctx context.Context, nc net.Conn) {
	c, err := newConn(s, nc)
	if err != nil {
		s.log.Warn("connection of no use", "peer", nc.RemoteAddr().String(), "err", err)
		_ = nc.Close()
		return
	}
	ctx, c.cancel = context.WithCancel(ctx)
	victim, ok := s.admit(c)
	if !ok {
		c.cut()
		return
	}
	if victim != nil {
		victim.cut()
	}
	if tc, ok := nc.(*net.TCPConn); ok {
		// A peer that went away without a word is gone after two minutes.
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
	}
	c.resume = func() {
		if c.serve(ctx) {
			s.left(c)
		}
	}
	s.start(func() {
		if s.peers.begins(ctx, c) {
			c.resume()
		} else {
			c.cut()
			s.left(c)
		}
	})
}

// left is for a connection of which nothing runs any more.
func (s *Server) left(c *conn) {
	s.peers.leave(c)
	close(c.over)
	s.peers.inside.Done()
}
