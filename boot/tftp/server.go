package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Request is a read request.
type Request struct {
	// Path is as the client sent it: any bytes but zero, also "../x".
	Path   string
	Client netip.AddrPort
	// Server is the address the request came to, and that the answer comes from.
	Server netip.Addr
}

// File is what a request reads. Its size is final when it is opened; a file
// that ends before it makes the transfer fail.
type File interface {
	io.ReadCloser
	Size() int64
}

// ReadyFile is a File that can say what of it is in memory. What is so, the lane
// sends without waking anybody.
type ReadyFile interface {
	File
	// ReadNow is Read without waiting for a disk: it reads less, or nothing, where
	// it would have to. That is no error, and Read goes on from there. ReadNow and
	// Read are not called at the same time.
	ReadNow(p []byte) int
}

// Handler opens files for clients.
type Handler interface {
	// Open is called once for a request, in a goroutine of its own, and may
	// take its time: the client's repetitions are dropped meanwhile. ctx ends
	// when the client starts anew or the server stops. Errors are ErrNotFound,
	// ErrRefused and ErrSilent, or any other, which the client isn't told.
	Open(ctx context.Context, r Request) (File, error)
}

// What a Handler answers instead of a file.
var (
	// ErrNotFound is answered at once with error code 1: the firmware goes on
	// with the next name.
	ErrNotFound = errors.New("file not found")
	// ErrRefused is answered with error code 2.
	ErrRefused = errors.New("access violation")
	// ErrSilent is not answered at all: the client is none of ours.
	ErrSilent = errors.New("no answer")
)

// Server serves reads. The zero value of each field but Handler is a default.
type Server struct {
	Handler Handler
	// Known says whether a client may be answered at all, errors included; nil is
	// all. It runs in the request's own goroutine, before Open.
	Known func(context.Context, netip.Addr) bool
	// Observe, when not nil, is called at the end of every request, from many
	// goroutines.
	Observe func(Event)
	// Logger takes failures as warnings and all else as debug messages; nil
	// drops them.
	Logger *slog.Logger
	// FirstWait is how long to wait for a client's first acknowledgement before
	// sending again, 250 ms by default. Then the wait follows from how long
	// answers take (RFC 6298), between LeastWait, 5 ms by default, and MostWait,
	// 1 s: a board gives up after 30 s for a whole file, however much gets lost.
	FirstWait, LeastWait, MostWait time.Duration
	// Silence is how long a client may leave a packet unanswered, 10 s by default.
	Silence time.Duration
	// MaxBlock is the largest block given, in bytes; 0: what fits into a packet of
	// the link, which is the bound in any case.
	MaxBlock int
	// AfterLast is the number of the block after number 65535: 0, as the firmware
	// that counts so far wants it, or 1.
	AfterLast uint16
	// Plain says for which names the options of a request are not answered, so
	// that the file comes in blocks of 512 bytes; nil is none.
	Plain func(path string) bool
	// MaxTransfers bounds all transfers at once, 256 by default.
	MaxTransfers int
	// MaxPerClient bounds those of one address, 8 by default.
	MaxPerClient int
	// Grace is how long transfers may go on once the server stops, 5 s by
	// default.
	Grace time.Duration
	// Waits, when not nil, is told 1 when a transfer reads what may have to come from
	// a disk, and -1 when it has it, from many goroutines.
	Waits func(n int)
	// MTU gives the largest packet of an interface by its index; nil asks the
	// kernel for that of the way to the client.
	MTU func(index int) int
}

func (s *Server) withDefaults() Server {
	d := *s
	def := func(v *int, n int) {
		if *v <= 0 {
			*v = n
		}
	}
	wait := func(v *time.Duration, t time.Duration) {
		if *v <= 0 {
			*v = t
		}
	}
	wait(&d.FirstWait, 250*time.Millisecond)
	wait(&d.LeastWait, 5*time.Millisecond)
	wait(&d.MostWait, time.Second)
	wait(&d.Silence, 10*time.Second)
	wait(&d.Grace, 5*time.Second)
	def(&d.MaxTransfers, 256)
	def(&d.MaxPerClient, 8)
	if d.Known == nil {
		d.Known = func(context.Context, netip.Addr) bool { return true }
	}
	if d.Observe == nil {
		d.Observe = func(Event) {}
	}
	if d.Waits == nil {
		d.Waits = func(int) {}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

// Serve answers requests that come to conn, which Listen made, until ctx is
// over, lets transfers end for Grace, and closes conn. The error says why it could not go on; it is
// nil when ctx ended it.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	defer conn.Close()
	r := &running{
		Server: s.withDefaults(), transfers: make(map[netip.AddrPort]*active),
		perClient: make(map[netip.Addr]int), clients: make(map[netip.Addr]waits), lanes: make(map[netip.Addr]*lane),
	}
	// Transfers outlive ctx by Grace.
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := r.receive(ctx, hard, conn)

	grace := time.AfterFunc(r.Grace, func() { cancel(errStopped) })
	defer grace.Stop()
	r.wg.Wait()
	r.closeLanes()
	if err != nil {
		return fmt.Errorf("serving TFTP: %w", err)
	}
	return nil
}

// running is a Server at work.
type running struct {
	Server
	wg sync.WaitGroup

	mu        sync.Mutex
	transfers map[netip.AddrPort]*active
	perClient map[netip.Addr]int
	// clients is what transfers learned of how long answers take.
	clients map[netip.Addr]waits
	links   interfaces

	lanesMu  sync.Mutex
	lanes    map[netip.Addr]*lane
	lanesRun sync.WaitGroup
}

func (r *running) limits() limits { return limits{r.FirstWait, r.LeastWait, r.MostWait} }

// maxClients bounds how many clients are remembered.
const maxClients = 4096

// known is what is known of a client's answers from the files before: a board
// reads some sixty in a boot.
func (r *running) known(client netip.Addr) waits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clients[client]
}

func (r *running) remember(client netip.Addr, w waits) {
	if w.smooth == 0 {
		return
	}
	w.settle(r.limits())
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.clients[client]; !ok && len(r.clients) >= maxClients {
		for one := range r.clients {
			delete(r.clients, one)
			break
		}
	}
	r.clients[client] = w
}

// active is one request that is being answered.
type active struct {
	raw    string // the request's bytes
	cancel context.CancelCauseFunc
	// moved is set once the client confirmed something: a request like it is
	// then no repetition but a new start.
	moved atomic.Bool
	// overtaken is set once the client asked for another file.
	overtaken atomic.Bool
}

// receive reads packets until ctx is over. Transfers end by hard.
func (r *running) receive(ctx, hard context.Context, conn *net.UDPConn) error {
	buf, oob := make([]byte, maxRequest+1), make([]byte, 128)
	for failures := 0; ; {
		n, oobn, _, client, err := conn.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Of no one client; but never spin on it.
			if failures++; failures > 100 {
				return err
			}
			r.Logger.Warn("reading a TFTP packet", "err", err)
			continue
		}
		failures = 0
		at, ok := parseArrival(oob[:oobn])
		if !ok || at.broadcast || client.Port() == 0 {
			continue // RFC 1123 section 4.2.3.4: no answer to broadcasts
		}
		r.packet(hard, netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), at, buf[:n])
	}
}

// packet decides on one packet.
func (r *running) packet(hard context.Context, client netip.AddrPort, at arrival, raw []byte) {
	start := time.Now()
	event := Event{Request: Request{Client: client, Server: at.local}}
	req, err := parseRequest(raw)
	if err != nil {
		r.end(event, start, Malformed, err)
		return
	}
	event.Request.Path = req.path
	ctx, t, verdict := r.admit(hard, client, string(raw))
	switch verdict {
	case admitted:
	case repeated:
		return
	default:
		r.end(event, start, Busy, nil)
		return
	}
	go func() {
		defer r.wg.Done()
		defer r.release(client, t)
		r.answer(ctx, event, start, req, at, t)
	}()
}

type verdict int

const (
	admitted verdict = iota
	repeated         // the same request is being answered already
	tooMany
)

// admit enters a request into the table, in place of an older one from the
// same port: a board that was reset uses the same ports again.
func (r *running) admit(hard context.Context, client netip.AddrPort, raw string) (context.Context, *active, verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.transfers[client]; old != nil {
		if old.raw == raw && !old.moved.Load() {
			return nil, nil, repeated
		}
		old.cancel(errSuperseded)
		r.forget(client)
	}
	if len(r.transfers) >= r.MaxTransfers || r.perClient[client.Addr()] >= r.MaxPerClient {
		return nil, nil, tooMany
	}
	for c, t := range r.transfers {
		if c.Addr() == client.Addr() {
			t.overtaken.Store(true)
		}
	}
	ctx, cancel := context.WithCancelCause(hard)
	t := &active{raw: raw, cancel: cancel}
	r.transfers[client] = t
	r.perClient[client.Addr()]++
	r.wg.Add(1)
	return ctx, t, admitted
}

// release takes a request out of the table, unless another has its place.
func (r *running) release(client netip.AddrPort, t *active) {
	t.cancel(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.transfers[client] == t {
		r.forget(client)
	}
}

// forget drops the entry of a client. r.mu is held.
func (r *running) forget(client netip.AddrPort) {
	delete(r.transfers, client)
	if r.perClient[client.Addr()]--; r.perClient[client.Addr()] <= 0 {
		delete(r.perClient, client.Addr())
	}
}
