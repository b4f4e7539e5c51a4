package sunrpc

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// maxVectors and maxVectorBytes bound one batch of replies, which a client
	// must read within Limits.Write.
	maxVectors     = 64
	maxVectorBytes = 2 << 20
)

// outgoing is a reply, or several: data, which lies in b or has outgrown it, and then
// what is in tail, unless that is nil.
type outgoing struct {
	b    *buffer
	data []byte
	tail *pipe
}

func (o *outgoing) size() int { return len(o.data) + o.tail.size() }

// memory is how many bytes are held until it is sent.
func (o *outgoing) memory() int { return max(len(o.b.b), cap(o.data), o.size()) }

// loose is how many of them nobody is charged with.
func (o *outgoing) loose() int {
	if o.b.from != nil {
		return 0
	}
	return o.memory()
}

// writer is the sending side of a conn. Whoever has something to send puts it
// into the queue; if nobody is writing he writes until the queue is empty, also
// for those who come meanwhile.
type writer struct {
	onWrite func(fd uintptr) bool
	vectors [][]byte // what is being written, and then tail; the writing goroutine's own
	tail    *pipe
	zeros   [3]byte // for tail.pad
	batch   []outgoing
	wrErr   error

	mu      sync.Mutex
	changed sync.Cond // any of the following
	queue   []outgoing
	queued  int // bytes of memory in queue and batch
	loose   int // those of them that nobody is charged with
	running int // bytes of the buffers for replies that calls are making, large ones apart
	writing bool
	broken  bool     // the connection is dead: nothing is written any more
	jobs    int      // long calls that run or wait to be sent
	xids    []uint32 // of those that are not done
	// answered are those that were, and must not be done again.
	answered answered
}

// send sends o and gives its buffer back. It may block while it writes, at
// most as long as the sweep lets the connection live.
func (c *conn) send(o outgoing) {
	c.mu.Lock()
	c.queue = append(c.queue, o)
	c.queued += o.memory()
	c.loose += o.loose()
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for len(c.queue) > 0 {
		queued, loose := c.nextBatch()
		broken := c.broken
		c.mu.Unlock()
		var err error
		if !broken {
			err = c.writeBatch()
		}
		for i := range c.batch {
			c.s.pool.put(c.batch[i].b)
			c.s.pipes.put(c.batch[i].tail)
			c.batch[i] = outgoing{}
		}
		if err != nil {
			c.cut()
		}
		c.mu.Lock()
		c.broken = c.broken || err != nil
		c.queued, c.loose = c.queued-queued, c.loose-loose
		c.changed.Broadcast()
	}
	c.writing = false
	c.changed.Broadcast()
	c.mu.Unlock()
}

// nextBatch moves the front of the queue to the batch; c.mu is held. It gives what it was
// counted for in queued and in loose.
func (c *conn) nextBatch() (queued, loose int) {
	k, n := 0, 0
	for tail := false; k < len(c.queue) && k < maxVectors && !tail && (k == 0 || n+c.queue[k].size() <= maxVectorBytes); k++ {
		n += c.queue[k].size()
		queued, loose = queued+c.queue[k].memory(), loose+c.queue[k].loose()
		tail = c.queue[k].tail != nil
	}
	c.batch = append(c.batch[:0], c.queue[:k]...)
	rest := copy(c.queue, c.queue[k:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	return queued, loose
}

// writeBatch writes the batch to the socket.
func (c *conn) writeBatch() error {
	c.vectors = c.vectors[:0]
	for _, o := range c.batch {
		c.vectors = append(c.vectors, o.data)
		c.tail = o.tail // only the last has one
	}
	left := c.vectors
	c.wrErr = nil
	err := c.raw.Write(c.onWrite)
	c.writeSince.Store(0)
	clear(left)
	c.tail = nil
	if err == nil {
		err = c.wrErr
	}
	c.vectors = left[:0]
	return err
}

// writeSome writes as much as the socket takes. It gives false when more is
// left; the wait that follows is timed by the sweep.
func (c *conn) writeSome(fd uintptr) bool {
	for {
		var n int
		switch {
		case len(c.vectors) > 0:
			n, c.wrErr = c.writeVectors(int(fd))
		case c.tail == nil || c.tail.size() == 0:
			return true
		case c.tail.n > 0:
			n, c.wrErr = c.tail.send(int(fd))
		default:
			n, c.wrErr = unix.Write(int(fd), c.zeros[:c.tail.pad])
			c.tail.pad -= max(n, 0)
		}
		switch c.wrErr {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			c.wrErr = nil
			c.writeSince.CompareAndSwap(0, c.s.clock.Load())
			return false
		default:
			return true
		}
		for len(c.vectors) > 0 && n >= len(c.vectors[0]) {
			n -= len(c.vectors[0])
			c.vectors = c.vectors[1:]
		}
		if len(c.vectors) > 0 && n > 0 {
			c.vectors[0] = c.vectors[0][n:]
		}
	}
}

// writeVectors writes to the socket what can be written of the vectors at once.
func (c *conn) writeVectors(fd int) (int, error) {
	switch {
	case c.tail != nil: // which goes into the same packet
		return unix.SendmsgBuffers(fd, c.vectors, nil, nil, unix.MSG_MORE)
	case len(c.vectors) == 1:
		return unix.Write(fd, c.vectors[0])
	default:
		return unix.Writev(fd, c.vectors)
	}
}

// looseQueue is how many bytes may wait to be sent that nobody is charged with: two buffers
// of replies that were gathered.
const looseQueue = 2 * mediumBuffer

// full says whether more than limit bytes wait to be sent, or are to come. c.mu is held.
func (c *conn) full(limit int) bool {
	return c.queued+c.running > limit || c.loose > min(limit, looseQueue)
}

// throttle waits while it is full. What was answered before does not wait with it.
func (c *conn) throttle(limit int) {
	c.mu.Lock()
	full := c.full(limit)
	c.mu.Unlock()
	if !full {
		return
	}
	c.flush()
	c.mu.Lock()
	for c.full(limit) && !c.broken {
		c.changed.Wait()
	}
	c.mu.Unlock()
}

// waitJobs waits until fewer than limit long calls run.
func (c *conn) waitJobs(limit int) {
	c.mu.Lock()
	full := c.jobs >= limit
	c.mu.Unlock()
	if !full {
		return
	}
	c.flush()
	c.mu.Lock()
	for c.jobs >= limit {
		c.changed.Wait()
	}
	c.mu.Unlock()
}

func (c *conn) jobStarted(xid uint32, bytes int) {
	c.mu.Lock()
	c.jobs++
	c.xids = append(c.xids, xid)
	c.running += bytes
	c.mu.Unlock()
}

// jobDone is for a call that was done, before its client is told.
func (c *conn) jobDone(call *Call, reply []byte) {
	c.mu.Lock()
	if !call.Forget && call.tail == nil {
		c.keep(call.XID, call.sum, reply)
	}
	last := len(c.xids) - 1
	c.xids[slices.Index(c.xids, call.XID)] = c.xids[last]
	c.xids = c.xids[:last]
	c.mu.Unlock()
}

func (c *conn) jobEnded(bytes int) {
	c.mu.Lock()
	c.jobs--
	c.running -= bytes
	c.changed.Broadcast()
	c.mu.Unlock()
}

// drain waits until all long calls have ended and their replies were sent.
func (c *conn) drain() {
	c.mu.Lock()
	for c.jobs > 0 || c.writing {
		c.changed.Wait()
	}
	c.mu.Unlock()
}

// idle says that nothing is under way.
func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jobs == 0 && !c.writing
}
