package tftp

import (
	"context"
	"errors"
	"net/netip"
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
	// receive calls take with packets as they come, until the socket is closed or
	// fails. all says that there were no more. What take is given is good until it
	// returns.
	receive(take func(in []message, all bool)) error
	// waiting says whether there are packets that take was not given.
	waiting() bool
	// sendAll is for take alone, send for anybody. What cannot be sent is lost, as
	// on the way.
	sendAll([]message)
	send(message)
	// close makes receive return. Nothing may be sent from then on.
	close()
	// release gives the socket back when receive has returned and nobody uses it any more.
	release()
}

// lane is a socket that all transfers from one of the host's addresses share: a
// hundred boards acknowledge in one system call, and get their next blocks in
// another. With a socket for each of them a block costs half as much again.
//
// One goroutine, run, takes what comes in and sends what it is answered with, as long
// as the files are in memory. Where one is not, a transfer's own goroutine reads on:
// so a slow disk holds up the boards that read from it, and nobody else. It waits
// meanwhile, and for the end. What was not answered in time a timer sends again.
type lane struct {
	sock    socket
	limits  limits
	silence time.Duration
	out     []message // run's: what goes out

	mu      sync.Mutex
	lots    uint64 // that came in
	flights map[netip.AddrPort]*flight
	timer   *time.Timer
	armed   time.Time // when timer calls expire; zero: not
	overdue uint64    // see expire; 0: nothing is
	failed  error     // the socket is of no use any more
}

// flight is a client's part of a lane. The lane's mu guards it.
type flight struct {
	to    netip.AddrPort
	moved *atomic.Bool // set once the client confirmed something
	// turn gets a value when the burst is confirmed, or err is set.
	turn chan struct{}

	burst
	more     *reader // of what follows it
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
	l.fail(l.sock.receive(l.take))
	l.sock.release()
}

// close ends run. No transfer is left.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disarm()
	if l.failed == nil { // else run has ended, and the socket is gone
		l.sock.close()
	}
}

// fail ends all transfers: nobody sends from then on.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	l.disarm()
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

// deliver sends a burst, and of more what is in memory, and waits until the client has
// confirmed it all. more is the lane's meanwhile.
func (l *lane) deliver(ctx context.Context, f *flight, b burst, more *reader) error {
	if err := l.begin(f, b, more); err != nil {
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.sock.send(message{to, packError(code, text)})
	}
}

func (l *lane) begin(f *flight, b burst, more *reader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case f.err != nil:
		return f.err
	case l.flights[f.to] != f:
		// The client would take it for a block of what it asked for since.
		return errSuperseded
	}
	f.burst, f.more = b, more
	f.sent(time.Now(), l.limits)
	// Under mu: once it is unlocked the packet may be confirmed and written over.
	l.sock.send(message{f.to, f.packet})
	if l.armed.IsZero() || f.deadline.Before(l.armed) {
		l.arm(f.deadline)
	}
	return nil
}

// take answers what came in. Acknowledgements of other blocks than the one that
// is out change nothing: answered with a packet they would double all that
// follow (RFC 1123, 4.2.3.1).
func (l *lane) take(in []message, all bool) {
	now := time.Now()
	l.out = l.out[:0]
	l.mu.Lock()
	l.lots++
	for _, m := range in {
		f := l.flights[m.addr]
		if f == nil {
			continue
		}
		r, ok := parseReply(m.data)
		switch {
		case !ok:
		case r.op == opError:
			quit := r // or each acknowledgement would be kept apart, too
			f.quit = &quit
			f.end(errQuit)
		case f.packet != nil && r.block == f.number && f.lot != l.lots:
			// One of a lot: nobody can have heard yet of what goes out after it.
			f.lot = l.lots
			f.confirmed(now, l.limits)
			if f.next() || f.goOn() {
				f.sent(now, l.limits)
				l.out = append(l.out, message{f.to, f.packet})
			} else {
				f.wake()
			}
		}
	}
	if l.overdue != 0 && (all || l.lots >= l.overdue) {
		l.again(now, func(m message) { l.out = append(l.out, m) })
	}
	l.mu.Unlock()
	// Packets are written over by take only, and by who was woken.
	l.sock.sendAll(l.out)
}

// expire is for when the earliest packet is due again. Nothing is late whose answer may
// lie in the socket: then take looks when it has taken all that lies there now. But a
// flood stops no clock.
func (l *lane) expire() {
	const mostLots = 16
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.armed.IsZero(): // disarmed meanwhile
	case l.sock.waiting():
		l.overdue = l.lots + mostLots
		l.armed = time.Time{}
	default:
		l.again(time.Now(), l.sock.send)
	}
}

// again sends what was not answered in time, and sets the timer for what is due next.
// l.mu is held.
func (l *lane) again(now time.Time, send func(message)) {
	l.overdue = 0
	var next time.Time
	for _, f := range l.flights {
		switch {
		case f.packet == nil:
			continue
		case now.Before(f.deadline):
		case now.Sub(f.begin) >= l.silence:
			f.end(errNobody)
			continue
		default:
			f.waits.expired(l.limits)
			// The last wait ends with the client's time.
			f.deadline = earlier(now.Add(f.waits.next(l.limits)), f.begin.Add(l.silence))
			f.again = true
			f.resent++
			send(message{f.to, f.packet})
		}
		if next.IsZero() || f.deadline.Before(next) {
			next = f.deadline
		}
	}
	if next.IsZero() {
		l.disarm()
		return
	}
	// Deadlines are looked at together: a millisecond is nothing to them.
	const tick = time.Millisecond
	if soon := now.Add(tick); next.Before(soon) {
		next = soon
	}
	l.arm(next)
}

// arm has expire called at a time. l.mu is held.
func (l *lane) arm(t time.Time) {
	l.armed = t
	if l.timer == nil {
		l.timer = time.AfterFunc(time.Until(t), l.expire)
		return
	}
	l.timer.Reset(time.Until(t))
}

// disarm has expire do nothing. l.mu is held.
func (l *lane) disarm() {
	l.armed = time.Time{}
	l.overdue = 0
	if l.timer != nil {
		l.timer.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// goOn takes the next burst when that needs no wait.
func (f *flight) goOn() bool {
	if f.more == nil {
		return false
	}
	b, ok := f.more.now()
	if ok {
		f.burst = b
	}
	return ok
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
