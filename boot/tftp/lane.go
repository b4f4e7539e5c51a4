package tftp

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// message is a packet and the client it comes from or goes to.
type message struct {
	addr netip.AddrPort
	data []byte
}

// socket is where packets go out and come in, many in one call.
type socket interface {
	// receive calls take with packets as they come, until the time that arm
	// set, which is os.ErrDeadlineExceeded, or the socket fails. What take is
	// given is good until it returns.
	receive(take func([]message)) error
	// arm sets when receive returns; zero: never. It is for who calls receive,
	// and hurry for anybody who needs it to return earlier.
	arm(t time.Time)
	hurry(t time.Time)
	// sendAll is for take and for who calls receive, send for anybody. What
	// cannot be sent is lost, as on the way.
	sendAll([]message)
	send(message)
	close()
}

// lane is a socket that all transfers from one of the host's addresses share: a
// hundred boards acknowledge in one system call, and get their next blocks in
// another. With a socket for each of them a block costs half as much again.
//
// One goroutine, run, takes what comes in and sends what it is answered with. A
// transfer's own goroutine waits while a burst of its file goes out, and reads
// the next: so a slow disk holds up the boards that read from it, and nobody else.
type lane struct {
	sock    socket
	limits  limits
	silence time.Duration
	// run's: what goes out, and how many lots came in.
	out  []message
	lots uint64

	mu      sync.Mutex
	flights map[netip.AddrPort]*flight
	armed   time.Time // when run wakes at the latest; zero: when something comes
	failed  error     // the socket is of no use any more
}

// flight is a client's part of a lane. The lane's mu guards it.
type flight struct {
	to    netip.AddrPort
	moved *atomic.Bool // set once the client confirmed something
	// turn gets a value when the burst is confirmed, or err is set.
	turn chan struct{}

	burst
	waits    waits
	begin    time.Time // the packet that is out went out first
	deadline time.Time // it is to go out again
	again    bool      // it has

	lot uint64 // in which the last packet was confirmed

	bytes  int64 // confirmed
	resent int
	err    error
	quit   *reply // the client's ERROR
}

var (
	errQuit   = errors.New("client sent an error")
	errNobody = errors.New("client says nothing")
)

func newLane(sock socket, l limits, silence time.Duration) *lane {
	return &lane{sock: sock, limits: l, silence: silence, flights: make(map[netip.AddrPort]*flight)}
}

// run serves the lane until its socket is closed or fails.
func (l *lane) run() {
	for {
		l.plan()
		err := l.sock.receive(l.take)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			l.fail(err)
			return
		}
		l.expire(time.Now())
	}
}

// fail ends all transfers. The socket stays open: somebody may be about to send.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	for _, f := range l.flights {
		f.end(err)
	}
}

// isOpen says whether the lane can be used.
func (l *lane) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed == nil
}

// add lets a transfer use the lane, in place of one with the same client.
func (l *lane) add(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.turn = make(chan struct{}, 1)
	f.err = l.failed
	l.flights[f.to] = f
}

func (l *lane) remove(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.packet = nil
	if l.flights[f.to] == f {
		delete(l.flights, f.to)
	}
}

// deliver sends a burst and waits until the client has confirmed it all.
func (l *lane) deliver(ctx context.Context, f *flight, b burst) error {
	if err := l.begin(f, b); err != nil {
		return err
	}
	select {
	case <-f.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return f.err
}

func (l *lane) sendError(to netip.AddrPort, code byte, text string) {
	l.sock.send(message{to, packError(code, text)})
}

func (l *lane) begin(f *flight, b burst) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case f.err != nil:
		return f.err
	case l.flights[f.to] != f:
		// The client would take it for a block of what it asked for since.
		return errSuperseded
	}
	f.burst = b
	f.sent(time.Now(), l.limits)
	// Under mu: once it is unlocked the packet may be confirmed and written over.
	l.sock.send(message{f.to, f.packet})
	if l.armed.IsZero() || f.deadline.Before(l.armed) {
		l.armed = f.deadline
		l.sock.hurry(l.armed)
	}
	return nil
}

// take answers what came in. Acknowledgements of other blocks than the one that
// is out change nothing: answered with a packet they would double all that
// follow (RFC 1123, 4.2.3.1).
func (l *lane) take(in []message) {
	now := time.Now()
	l.out = l.out[:0]
	l.lots++
	l.mu.Lock()
	for _, m := range in {
		f := l.flights[m.addr]
		if f == nil {
			continue
		}
		r, ok := parseReply(m.data)
		switch {
		case !ok:
		case r.op == opError:
			f.quit = &r
			f.end(errQuit)
		case f.packet != nil && r.block == f.number && f.lot != l.lots:
			// One of a lot: nobody can have heard yet of what goes out after it.
			f.lot = l.lots
			f.confirmed(now, l.limits)
			if f.next() {
				f.sent(now, l.limits)
				l.out = append(l.out, message{f.to, f.packet})
			} else {
				f.wake()
			}
		}
	}
	l.mu.Unlock()
	// Packets are written over by take only, and by who was woken.
	l.sock.sendAll(l.out)
}

// plan sets when the earliest packet is due again.
func (l *lane) plan() {
	// Deadlines are looked at together: a millisecond is nothing to them.
	const tick = time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = time.Time{}
	for _, f := range l.flights {
		if f.packet != nil && (l.armed.IsZero() || f.deadline.Before(l.armed)) {
			l.armed = f.deadline
		}
	}
	if soon := time.Now().Add(tick); !l.armed.IsZero() && l.armed.Before(soon) {
		l.armed = soon
	}
	l.sock.arm(l.armed)
}

// expire sends again what was not answered in time.
func (l *lane) expire(now time.Time) {
	l.out = l.out[:0]
	l.mu.Lock()
	for _, f := range l.flights {
		switch {
		case f.packet == nil || now.Before(f.deadline):
		case now.Sub(f.begin) >= l.silence:
			f.end(errNobody)
		default:
			f.waits.expired(l.limits)
			// The last wait ends with the client's time.
			f.deadline = earlier(now.Add(f.waits.next(l.limits)), f.begin.Add(l.silence))
			f.again = true
			f.resent++
			l.out = append(l.out, message{f.to, f.packet})
		}
	}
	l.mu.Unlock()
	l.sock.sendAll(l.out)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sent notes that a new packet goes out.
func (f *flight) sent(now time.Time, l limits) {
	f.begin, f.again = now, false
	f.deadline = now.Add(f.waits.next(l))
}

func (f *flight) confirmed(now time.Time, l limits) {
	if !f.again {
		f.waits.measured(now.Sub(f.begin), l)
	}
	if f.block > 0 {
		f.bytes += int64(len(f.packet) - headerSize)
	}
	f.moved.Store(true)
}

// end stops the transfer; the first reason counts.
func (f *flight) end(err error) {
	if f.err == nil {
		f.err = err
	}
	f.packet = nil
	f.wake()
}

func (f *flight) wake() {
	select {
	case f.turn <- struct{}{}:
	default:
	}
}
