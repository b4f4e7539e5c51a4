package sunrpc

import (
	"context"

	"rubus/nfsexport/xdr"
)

// job is a long call that left its connection's reader.
type job struct {
	call Call
	args *buffer // what call.Args lies in
	out  *buffer
	w    xdr.Writer
}

// dispatch lets a call run beside the reader, as soon as the limits allow. The
// wait is what slows down a client that sends more than it may: it is not read
// from. dispatch gives false when the connection is to end.
func (c *conn) dispatch(ctx context.Context, p *program, plan Plan, record []byte, owned *buffer) bool {
	c.throttle(c.s.limits.Queue)
	c.waitJobs(c.s.limits.CallsPerConn)
	if !c.slot(ctx) {
		c.s.pool.put(owned)
		return false
	}
	j, ok := c.s.jobs.Get().(*job)
	if !ok {
		j = new(job)
	}
	j.call, j.args = c.call, owned
	if owned == nil {
		// The record lies in the buffer that the reader goes on to use.
		j.args = c.s.pool.get(len(record))
		n := copy(j.args.b, record)
		j.call.Args = xdr.NewReader(j.args.b[n-c.call.Args.Len() : n])
	}
	if j.out = c.room(ctx, j.args, plan.Reply); j.out == nil {
		c.release()
		c.s.recycle(j)
		return false
	}
	j.w.Buf = j.out.b[:0]
	c.jobStarted()
	go c.work(ctx, j, p, plan.Once)
	return true
}

// room gets a buffer for a reply. A call whose own record is charged gets a
// large one only without waiting: who holds and waits can wait for himself. No
// honest call is large both ways.
func (c *conn) room(ctx context.Context, args *buffer, reply int) *buffer {
	n := min(reply+headRoom, c.s.pool.largeSize)
	if !c.s.pool.isLarge(n) || args.peer == nil {
		b, _ := c.take(ctx, n)
		return b
	}
	if !c.who.tryCharge(c.s.pool.largeSize) {
		return nil
	}
	b := c.s.pool.get(n)
	b.peer = c.who
	return b
}

// slot gets the right to run one more long call, of the peer's and of all.
func (c *conn) slot(ctx context.Context) bool {
	if !c.who.calls.TryAcquire(1) {
		c.flush()
		if c.who.calls.Acquire(ctx, 1) != nil {
			return false
		}
	}
	if !c.s.calls.TryAcquire(1) {
		c.flush()
		if c.s.calls.Acquire(ctx, 1) != nil {
			c.who.calls.Release(1)
			return false
		}
	}
	return true
}

// release gives back what slot got.
func (c *conn) release() {
	c.s.calls.Release(1)
	c.who.calls.Release(1)
}

// work runs a job and sends its reply.
func (c *conn) work(ctx context.Context, j *job, p *program, once bool) {
	j.w.Uint32(0)
	ok := c.s.answer(ctx, p, &j.call, once, &j.w)
	// What may hold a thread is over; the write only waits.
	c.release()
	if ok {
		j.w.PutUint32(0, uint32(j.w.Len()-markSize)|lastFragment)
		o := outgoing{j.out, j.w.Buf}
		j.out = nil
		c.s.recycle(j)
		c.send(o)
	} else {
		c.s.recycle(j)
	}
	c.jobEnded()
}

// recycle gives back a job and its buffers.
func (s *Server) recycle(j *job) {
	s.pool.put(j.args)
	s.pool.put(j.out)
	j.args, j.out, j.w.Buf, j.call.Args = nil, nil, nil, xdr.Reader{}
	s.jobs.Put(j)
}
