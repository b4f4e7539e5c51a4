package sunrpc

import (
	"io"

	"golang.org/x/sys/unix"
)

// The data of a large call may go the other way: from the socket into a pipe while it
// comes, and from there into a file, copied once instead of twice. Nothing is written
// before all of it is in the pipe: so a client that is slow, or stops, holds up nothing
// but what it holds with a buffer. That buffer there is, too: it is charged as ever, has
// what comes before the data, and takes in the data when the pipe has too little room.

// pourFrom is the least data that costs less when it goes through a pipe.
const pourFrom = 32 << 10

// split gives a pipe for the data of a call, of whose n bytes head is here: when the
// Program says that what is still to come is data, all of it and nothing else.
func (c *conn) split(head []byte, n int) *pipe {
	more := n - len(head)
	if more < pourFrom || more > c.pourMost || parse(head, &c.call) != goodCall {
		return nil
	}
	p, st := c.s.find(&c.call)
	if st != Success {
		return nil
	}
	c.call.more = more
	if plan := p.Plan(&c.call); plan.Data != more || !plan.Long || plan.Once {
		return nil
	}
	return c.s.pipes.get(c.who)
}

// receive takes up to n bytes from a socket: as many as there are now, and have room.
func (p *pipe) receive(fd, n int) (int, error) {
	m, err := unix.Splice(fd, nil, p.w, nil, n, unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return 0, err
	}
	p.n += int(m)
	return int(m), nil
}

// full says whether nothing more can be put in. Not its bytes count, but the pieces of
// memory that hold them.
func (p *pipe) full() bool {
	if p.n == 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(p.w), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 0
}

// read moves all that is in p, which b has just room for, to memory.
func (p *pipe) read(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(p.r, b)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n <= 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		b, p.n = b[n:], p.n-n
	}
	return nil
}

// pour moves all that is in p into a file, from off on. It gives how much that was; an
// error is of the first byte.
func (p *pipe) pour(fd int, off int64) (n int, err error) {
	for p.n > 0 {
		m, err := unix.Splice(p.r, nil, fd, &off, p.n, 0)
		if err == unix.EINTR {
			continue
		}
		if err == nil && m <= 0 {
			err = unix.EIO // so that nobody tries for ever
		}
		if err != nil && n == 0 {
			return 0, err
		}
		if err != nil {
			break
		}
		n, p.n = n+int(m), p.n-int(m)
	}
	return n, nil
}

// More is how many bytes of arguments there are behind Args. In Plan they may still be on
// their way; in Serve they wait for Pour: what Plan said is Data, all of it.
func (c *Call) More() int { return c.more }

// Pour writes the bytes that More counts to a file, from off on, as pwrite(2) does as
// often as it must: it gives how many went, fewer when not even one more does, and an
// error when none does. It is called once at most; what it leaves is dropped.
func (c *Call) Pour(fd int, off int64) (int, error) {
	if c.data == nil {
		return 0, nil
	}
	n, err := c.data.pour(fd, off)
	if err != unix.EINVAL { // of a file that splice(2) does not write to
		return n, err
	}
	if err := c.data.read(c.room); err != nil {
		return 0, err
	}
	for n < len(c.room) {
		m, err := unix.Pwrite(fd, c.room[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil && n == 0 {
			return 0, err
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return n, nil
}
