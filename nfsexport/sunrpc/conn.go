package sunrpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

// batch is how many bytes of replies are gathered before they are sent even
// though more calls have come in.
const batch = 48 << 10

// gathered is how many bytes of large records are answered together when they came
// together.
const gathered = 512 << 10

var errClosing = errors.New("connection is closing")

// conn is one TCP connection. Its reader is the goroutine in serve, which runs all
// calls; while it runs a long one, another may become the reader: see job.go.
type conn struct {
	s      *Server
	nc     net.Conn
	raw    syscall.RawConn
	ends   // addr is the client's, local where it came to
	who    *peer
	came   uint64 // its place in the order in which all came in
	cancel context.CancelFunc

	resume func()              // serve, for another goroutine
	turn   atomic.Pointer[job] // the long call that the reader runs
	dead   atomic.Bool         // cut: what it has still is not run
	over   chan struct{}       // closed when nothing of it runs any more
	before <-chan struct{}     // over of what its client had before and may run still, or nil

	// The reader's own.
	frames  framer
	call    Call
	now     time.Time // when the last cheap call ended; zero after a wait
	out     *buffer   // holds w.Buf, unless that has outgrown it
	w       xdr.Writer
	onRead  func(fd uintptr) bool // readSome
	onTry   func(fd uintptr) bool // readOnce
	onWait  func()                // waits
	readN   int
	readErr error
	// pourMost is the most data that goes through a pipe: what comes in many small pieces
	// has no room there.
	pourMost int
	moved    int // bytes of long calls since others had a turn
	taken    int // bytes of large records since replies were sent
	// crowded: calls that are not long may run as long ones, as there were too many.
	crowded bool
	waited  bool // Threads count the call, which is not long, as one that waits

	charged atomic.Int64 // bytes of its buffers that are charged to the peer

	// Times of the server's clock, for the sweep; 0 where nothing is waited for.
	lastRead     atomic.Int64
	partialSince atomic.Int64
	writeSince   atomic.Int64

	writer
}

// newConn makes a connection of nc, which must be a stream with a descriptor.
func newConn(s *Server, nc net.Conn) (*conn, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{s: s, nc: nc, raw: raw, pourMost: pipeSize, over: make(chan struct{})}
	c.addr, c.local = addrOf(nc.RemoteAddr()), addrOf(nc.LocalAddr())
	c.call.Peer = c.addr
	c.onRead = c.readSome
	c.onTry = func(fd uintptr) bool {
		c.readOnce(fd)
		return true
	}
	c.onWrite, c.onWait = c.writeSome, c.waits
	c.changed.L = &c.mu
	c.lastRead.Store(s.clock.Load())
	return c, nil
}

func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// after says what is to become of the reader after a call.
type after uint8

const (
	goesOn after = iota
	ended        // the connection is to end
	handed       // another goroutine is the reader now
)

// serve reads calls until the connection ends, then waits for those that still
// run; or until another goroutine reads on: then it gives false. ctx is the
// connection's own: c.cancel ends it.
func (c *conn) serve(ctx context.Context) bool {
	if c.frames.pool == nil {
		c.frames = framer{
			pool: &c.s.pool, pipes: &c.s.pipes, limit: c.s.limits.Record,
			own:   func(n int) (*buffer, error) { return c.forRecord(ctx, n) },
			split: c.split,
		}
	}
reading:
	for !c.s.stopping.Load() && !c.dead.Load() {
		rec, err := c.frames.next()
		if err != nil {
			c.s.log.Debug("connection cut", "peer", c.addr.String(), "err", err)
			break
		}
		if rec.b == nil {
			// Behind a large record there are others, as a rule: see fill.
			if c.frames.wary == 0 || c.taken >= gathered {
				c.flush()
			}
			if !c.fill() {
				break
			}
			continue
		}
		if c.partialSince.Load() != 0 {
			c.partialSince.Store(0)
		}
		switch c.handle(ctx, rec) {
		case handed:
			return false
		case ended:
			break reading
		}
	}
	c.flush()
	c.frames.close()
	c.drain()
	c.cut()
	return true
}

// fill waits for more bytes. What was answered does not wait with it.
func (c *conn) fill() bool {
	if c.frames.partial() && c.partialSince.Load() == 0 {
		c.partialSince.Store(c.s.clock.Load())
	}
	if c.w.Len() > 0 {
		if err := c.raw.Read(c.onTry); err != nil {
			return false
		}
		if c.readErr != unix.EAGAIN {
			return c.filled()
		}
		c.flush()
	}
	c.now = time.Time{}
	if err := c.raw.Read(c.onRead); err != nil {
		return false
	}
	return c.filled()
}

// filled takes in what was read.
func (c *conn) filled() bool {
	if c.readErr != nil || c.readN == 0 {
		return false
	}
	c.frames.filled(c.readN)
	c.lastRead.Store(c.s.clock.Load())
	return true
}

// readSome reads once. It gives false when there is nothing to read; before the
// wait for more, it gives up the memory.
func (c *conn) readSome(fd uintptr) bool {
	if c.readOnce(fd); c.readErr != unix.EAGAIN {
		return true
	}
	c.frames.park()
	return false
}

// readOnce reads what there is, or says EAGAIN.
func (c *conn) readOnce(fd uintptr) {
	for {
		p := c.frames.data
		if p != nil {
			c.readN, c.readErr = p.receive(int(fd), c.frames.left)
		} else {
			c.readN, c.readErr = unix.Read(int(fd), c.frames.space())
		}
		switch {
		case c.readErr == unix.EINTR:
		case c.readErr == unix.EAGAIN && p != nil && p.full():
			c.pourMost = p.n
			if c.readErr = c.frames.unpipe(); c.readErr != nil {
				return
			}
		default:
			return
		}
	}
}

// handle runs a call.
func (c *conn) handle(ctx context.Context, rec record) after {
	call := &c.call
	v := parse(rec.b, call)
	if v == notCall {
		// A peer that sends replies or half a header is out of step.
		c.s.drop(rec)
		return ended
	}
	if call.data = rec.data; call.data != nil {
		call.more, call.room = call.data.n, rec.b[len(rec.b):cap(rec.b)]
	}
	var p *program
	st := Success
	if v == goodCall {
		p, st = c.s.find(call)
	}
	if v != goodCall || st != Success {
		at := c.begin()
		c.s.refuse(call, v, p, st, &c.w)
		c.end(at, true)
		c.s.drop(rec)
		return goesOn
	}
	plan := p.Plan(call)
	if plan.Data >= pourFrom && plan.Data <= c.pourMost {
		c.frames.expect(len(rec.b) + call.more - plan.Data)
	}
	if rec.owned != nil {
		c.taken += len(rec.b) + call.more
	}
	if plan.Changes {
		call.sum = c.s.sum(call, plan)
	}
	if (plan.Long || plan.Changes || c.crowded) && c.sentAgain() {
		c.s.drop(rec)
		return goesOn
	}
	if !plan.Long {
		if c.s.inline.Add(1) <= int64(c.s.limits.Inline) {
			c.cheap(ctx, p, plan, rec)
			c.s.inline.Add(-1)
			c.s.drop(rec)
			return goesOn
		}
		c.s.inline.Add(-1)
		c.crowded = true
	}
	return c.long(ctx, p, plan, rec)
}

// drop gives back what a record has.
func (s *Server) drop(rec record) {
	s.pool.put(rec.owned)
	s.pipes.put(rec.data)
}

// cheap runs a call that is not long, and those behind it that can be run with it.
func (c *conn) cheap(ctx context.Context, p *program, plan Plan, rec record) {
	if plan.Shared > 0 && plan.Shared <= c.call.Args.Len() && p.joiner != nil && rec.owned == nil && !plan.Once && !c.crowded {
		if all := c.gather(p, plan, rec.b); all != nil {
			defer c.s.giveParts(all)
			if !c.together(ctx, p, all.of[:all.n]) {
				for i := range all.of[:all.n] {
					parse(all.of[i].record, &c.call) // as the first was, but for its end
					c.call.sum = all.of[i].sum
					c.alone(ctx, p, plan)
				}
			}
			return
		}
	}
	c.alone(ctx, p, plan)
}

// alone runs c.call, which is not long.
func (c *conn) alone(ctx context.Context, p *program, plan Plan) {
	at := c.begin()
	c.call.began, c.call.wait = c.now, c.onWait
	ok := c.s.answer(ctx, p, &c.call, plan.Once, &c.w)
	c.now = c.call.ended
	if ok && c.call.sum != 0 && !c.call.Forget {
		c.mu.Lock()
		c.keep(c.call.XID, c.call.sum, c.w.Buf[at+markSize:])
		c.mu.Unlock()
	}
	c.waitsOver(c.now.Sub(c.call.began))
	c.end(at, ok)
}

// begin makes room for a reply and its record mark; it gives where that starts.
func (c *conn) begin() int {
	c.makeRoom()
	at := c.w.Len()
	c.w.Uint32(0)
	return at
}

func (c *conn) makeRoom() {
	if c.out == nil {
		c.out = c.s.pool.get(mediumBuffer)
		c.w.Buf = c.out.b[:0]
	}
}

// end completes the reply that starts at at, or takes it back.
func (c *conn) end(at int, send bool) {
	if !send {
		c.w.Truncate(at)
		return
	}
	c.w.PutUint32(at, uint32(c.w.Len()-at-markSize)|lastFragment)
	c.sendFull()
}

// sendFull sends the replies gathered when they are many bytes.
func (c *conn) sendFull() {
	if c.w.Len() >= batch {
		c.flush()
	}
}

// flush sends the replies gathered, and waits while too much waits to be sent. It
// goes before all waits.
func (c *conn) flush() {
	c.now, c.taken = time.Time{}, 0
	if c.out == nil {
		return
	}
	b, data := c.out, c.w.Buf
	c.out, c.w.Buf = nil, nil
	if len(data) == 0 {
		c.s.pool.put(b)
		return
	}
	c.send(outgoing{b: b, data: data})
	c.throttle(c.s.limits.Queue)
}

// forRecord gets a buffer for a record of n bytes.
func (c *conn) forRecord(ctx context.Context, n int) (*buffer, error) {
	if n <= mediumBuffer {
		return c.s.pool.get(n), nil
	}
	return c.take(ctx, n, true)
}

// take gets a buffer that is charged to the peer. It may wait for that; if it must not and
// would, it gives nil.
func (c *conn) take(ctx context.Context, n int, wait bool) (*buffer, error) {
	from, size := &c.s.meansOf(c.who).bytes, c.s.pool.sizeFor(n)
	if !from.try(size) {
		if !wait {
			return nil, nil
		}
		c.flush()
		if from.take(ctx, size) != nil {
			return nil, errClosing
		}
	}
	c.charged.Add(int64(size))
	b := c.s.pool.get(n)
	b.from, b.by = from, c
	return b, nil
}

// cut ends the connection at once. It may be called by anybody, repeatedly.
func (c *conn) cut() {
	c.dead.Store(true)
	_ = c.nc.Close() // before calls see that they are in vain: they would answer
	c.cancel()
}
