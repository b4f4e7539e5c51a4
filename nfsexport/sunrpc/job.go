package sunrpc

import (
	"context"
	"runtime"
	"time"

	"rubus/nfsexport/xdr"
)

// A long call is run by the goroutine that reads its connection, as a cheap one is:
// to hand it to another would cost more than most long calls take. When it does take
// long (the watch says so, or the call itself, before it waits), the reading is handed
// over to another goroutine, which goes on where this one was; this one sends its
// reply when it has it, and is no reader any more.

// job is a long call: all that it needs, so that its connection can be read on.
type job struct {
	c    *conn
	wait func() // handOver, bound once
	call Call
	args *buffer // what call.Args lies in
	out  *buffer
	w    xdr.Writer

	waited  bool // Threads count it as one that waits
	watched watched
}

// waits is Call.Waits.
func (j *job) waits() {
	if !j.waited {
		j.waited = true
		j.c.s.threads.Waits(1)
	}
	j.c.handOver(j)
}

// waits is Call.Waits of calls that are not long: others have the thread, and what is behind
// the call waits with it.
func (c *conn) waits() {
	if !c.waited {
		c.waited = true
		c.s.threads.Waits(1)
	}
}

// waitsOver is for when such calls have ended, which took so long, if that is known.
func (c *conn) waitsOver(took time.Duration) {
	if c.waited {
		c.waited = false
		c.s.threads.Waits(-1)
	} else if took > watchTick {
		c.s.threads.Late()
	}
}

// smallReply is the longest reply that is gathered with others.
const smallReply = 4 << 10

// fairShare is how many bytes of long calls a connection may move until others have their
// turn. All that wait are readers: who has more to do than a thread can does not take
// it for as long as Go lets it, 10 ms.
const fairShare = 128 << 10

// idleReaders is how many goroutines that handed over, and then finished, wait to
// take over in turn. Each has a stack that has grown to what calls need.
const idleReaders = 32

// start runs f in a goroutine, which ends with the server at the latest.
func (s *Server) start(f func()) {
	select {
	case s.tasks <- f:
	default:
		go s.work(f)
	}
}

func (s *Server) work(f func()) {
	for {
		f()
		if s.idle.Add(1) > idleReaders {
			s.idle.Add(-1)
			return
		}
		select {
		case f = <-s.tasks:
			s.idle.Add(-1)
		case <-s.stop:
			return
		}
	}
}

// handOver lets another goroutine read the connection on, if j is the call that
// holds it up. Anybody may call it.
func (c *conn) handOver(j *job) {
	if c.turn.CompareAndSwap(j, nil) {
		c.s.start(c.resume)
	}
}

// long runs a long call as soon as the limits allow. The wait is what slows down a
// client that sends more than it may: it is not read from.
func (c *conn) long(ctx context.Context, p *program, plan Plan, rec record) after {
	c.throttle(c.s.limits.Queue)
	c.waitJobs(c.s.limits.CallsPerConn)
	j, ok := c.s.jobs.Get().(*job)
	if !ok {
		j = new(job)
		j.wait = j.waits
	}
	j.c, j.call, j.args = c, c.call, rec.owned
	if rec.owned == nil {
		// The record lies in the buffer that whoever reads goes on to use.
		j.args = c.s.pool.get(len(rec.b))
		n := copy(j.args.b, rec.b)
		j.call.Args = xdr.NewReader(j.args.b[n-c.call.Args.Len() : n])
	}
	// The memory first, as a client may keep others from it: they hold no slots meanwhile.
	if j.out = c.room(ctx, j.args, plan.Reply); j.out == nil {
		c.s.recycle(j)
		return ended
	}
	slot := c.slot(ctx)
	if slot == nil {
		c.s.recycle(j)
		return ended
	}
	if plan.Reply > smallReply {
		c.flush() // what was answered already goes first
	}
	j.w.Buf = j.out.b[:0]
	j.w.Uint32(0)
	c.s.isStranger(c.who) // who is known by now may have pipes
	j.call.wait, j.call.pipes, j.call.who = j.wait, &c.s.pipes, c.who
	bytes := 0
	if len(j.out.b) <= mediumBuffer { // else there are few of them
		bytes = len(j.out.b)
	}
	c.jobStarted(j.call.XID, bytes)
	c.turn.Store(j)
	c.s.watch.add(j)
	ok = c.s.answer(ctx, p, &j.call, plan.Once, &j.w)
	// What may hold a thread is over; a write only waits.
	slot.give(1)
	if j.waited {
		j.waited = false
		c.s.threads.Waits(-1)
	}
	c.jobDone(&j.call, j.w.Buf[markSize:])
	c.s.pipes.put(j.call.data)
	j.call.data = nil
	if ok {
		j.w.PutUint32(0, uint32(j.w.Len()-markSize+j.call.tail.size())|lastFragment)
	}
	if ok && (j.w.Len() > smallReply || j.call.tail != nil) {
		c.sendJob(j)
		ok = false
	}
	c.s.watch.remove(j)
	reads := c.turn.CompareAndSwap(j, nil)
	switch {
	case ok && reads:
		at := c.begin()
		c.w.Buf = append(c.w.Buf, j.w.Buf[markSize:]...)
		c.end(at, true)
	case ok:
		c.sendJob(j)
	}
	c.s.recycle(j)
	c.jobEnded(bytes)
	if !reads {
		return handed
	}
	c.now = time.Time{}
	if c.moved += max(len(rec.b), plan.Data) + plan.Reply; c.moved >= fairShare {
		c.moved = 0
		runtime.Gosched()
	}
	return goesOn
}

// sendJob sends a job's reply.
func (c *conn) sendJob(j *job) {
	o := outgoing{j.out, j.w.Buf, j.call.tail}
	j.out, j.call.tail = nil, nil
	c.send(o)
}

// room gets a buffer for a reply. A call whose own record is charged gets a
// large one only without waiting: who holds and waits can wait for himself. No
// honest call is large both ways.
func (c *conn) room(ctx context.Context, args *buffer, reply int) *buffer {
	n := min(reply+headRoom, c.s.pool.largeSize)
	if n <= smallBuffer {
		return c.s.pool.get(n)
	}
	b, _ := c.take(ctx, n, args.from == nil)
	return b
}

// slot gets the right to run one more long call: who calls gives it back to what slot gives.
// nil: the connection ends.
func (c *conn) slot(ctx context.Context) *holding {
	from := &c.s.meansOf(c.who).calls
	if !from.try(1) {
		c.flush()
		if from.take(ctx, 1) != nil {
			return nil
		}
	}
	if c.dead.Load() {
		from.give(1)
		return nil
	}
	return from
}

// recycle gives back a job and its buffers.
func (s *Server) recycle(j *job) {
	s.pool.put(j.args)
	s.pool.put(j.out)
	s.pipes.put(j.call.data)
	j.call.Unsplice()
	j.c, j.args, j.out, j.w.Buf, j.call.Args, j.call.wait = nil, nil, nil, nil, xdr.Reader{}, nil
	j.call.pipes, j.call.who, j.call.data, j.call.room = nil, nil, nil, nil
	s.jobs.Put(j)
}
