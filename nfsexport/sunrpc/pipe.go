package sunrpc

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// A reply may end in data that this process never touches: a pipe holds the pages of a
// file from the moment they were read until the socket has them (splice(2)). As they
// stand in the pipe before the reply begins, its length is known, and the file is needed
// no more.

// pipeSize is the room of a pipe: as much as one READ asks for at most.
const pipeSize = 1 << 20

// pipe holds the end of a reply, or of a record: see pour.go.
type pipe struct {
	r, w  int
	pages int // that it has room for
	n     int // bytes in it
	pad   int // zero bytes that follow them in a reply
	who   *peer
}

// pipes are those of a Server, made when they are wanted. Their number is bounded, as
// each takes two files and keeps pages in memory: who gets none copies.
type pipes struct {
	most, each int // of all, and of one peer

	mu   sync.Mutex
	idle []*pipe
	made int
}

// get gives an empty pipe; nil: there is none to be had.
func (ps *pipes) get(who *peer) *pipe {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if who.pipes >= ps.each || who.stranger.Load() {
		return nil
	}
	var p *pipe
	if last := len(ps.idle) - 1; last >= 0 {
		p = ps.idle[last]
		ps.idle = ps.idle[:last]
	} else if ps.made < ps.most {
		if p = newPipe(); p != nil {
			ps.made++
		}
	}
	if p != nil {
		p.who = who
		who.pipes++
	}
	return p
}

// newPipe makes a pipe; nil when it cannot.
func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1]}
	size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		p.close()
		return nil
	}
	p.pages = size / unix.Getpagesize()
	return p
}

// put takes a pipe back; one that is not empty is closed. A nil pipe is nothing.
func (ps *pipes) put(p *pipe) {
	if p == nil {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.who.pipes--
	p.who = nil
	if p.n > 0 {
		p.close()
		ps.made--
		return
	}
	p.pad = 0
	ps.idle = append(ps.idle, p)
}

// close closes those that nobody uses.
func (ps *pipes) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.idle {
		p.close()
	}
	ps.made -= len(ps.idle)
	ps.idle = nil
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// size is the number of bytes that p adds to a reply.
func (p *pipe) size() int {
	if p == nil {
		return 0
	}
	return p.n + p.pad
}

// fill takes n bytes of a file, or as many as there are up to its end or to what cannot
// be read.
func (p *pipe) fill(fd int, off int64, n int) {
	for p.n < n {
		m, err := unix.Splice(fd, &off, p.w, nil, n-p.n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			return
		}
		p.n += int(m)
	}
}

// send moves bytes to a socket: as many as it takes now.
func (p *pipe) send(fd int) (int, error) {
	flags := unix.SPLICE_F_NONBLOCK
	if p.pad > 0 {
		flags |= unix.SPLICE_F_MORE
	}
	n, err := unix.Splice(p.r, nil, fd, nil, p.n, flags)
	if err == nil && n <= 0 {
		err = io.ErrUnexpectedEOF // so that nobody tries for ever
	}
	if err != nil {
		return 0, err
	}
	p.n -= int(n)
	return int(n), nil
}

// Splice puts n bytes of a file, from off on, behind all that the Program appends to the
// reply, and zero bytes behind them as behind opaque data (RFC 4506 section 4.10). They
// are not copied: what somebody writes to them until the client has them is sent, so it
// must be known that nobody does. It gives how many bytes it took: fewer than n at the
// file's end or before what cannot be read; and 0, with nothing done, when that is at
// once or the reply cannot end so. It is called once at most. The file may be closed then.
func (c *Call) Splice(fd int, off int64, n int) int {
	if c.pipes == nil || c.tail != nil || n <= 0 {
		return 0
	}
	p := c.pipes.get(c.who)
	if p == nil {
		return 0
	}
	page := unix.Getpagesize()
	if (int(off%int64(page))+n+page-1)/page <= p.pages {
		p.fill(fd, off, n)
	}
	if p.n == 0 {
		c.pipes.put(p)
		return 0
	}
	p.pad = -p.n & 3
	c.tail = p
	return p.n
}

// Unsplice takes back what Splice did, if it did anything.
func (c *Call) Unsplice() {
	if c.tail != nil {
		c.pipes.put(c.tail)
		c.tail = nil
	}
}
