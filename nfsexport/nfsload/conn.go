package nfsload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keep is how much of a reply is looked at most; the rest is received and dropped
	// by the kernel. It holds every reply to one Call of Do.
	keep = 128 << 10
	// apart is the size from which a reply is dropped, not copied, behind what is
	// looked at. Shorter ones are received several at once.
	apart = 16 << 10
	// whole is up to what size a call is copied behind others, to be sent as one piece.
	whole = 2 << 10
	// maxPieces is how many pieces are sent at once at most (IOV_MAX).
	maxPieces = 1024
)

// Conn is a connection to an RPC server. It is for one goroutine at a time.
type Conn struct {
	nc net.Conn
	fd int

	xid     uint32
	flights []flight // by number modulo the window
	free    []uint32 // which of them are none

	buf []byte   // small calls are gathered in it
	out [][]byte // not sent yet

	in    []byte // in[r:w] came and is not looked at yet
	r, w  int
	large bool   // the last reply was to be dropped behind its front
	front []byte // of the reply whose rest is to be dropped
	size  int    // of that reply
	skip  int    // bytes of it still to come
}

// flight is a call that is not answered.
type flight struct {
	xid   uint32
	start time.Duration
}

// Dial connects to an RPC server. As root it calls from a port below 1024, as
// kernels do, and as they do from one whose last connection was closed a moment ago:
// there are 512.
func Dial(addr string) (*Conn, error) {
	var nc net.Conn
	var err error
	for range 64 {
		d := net.Dialer{Timeout: 10 * time.Second}
		if unix.Geteuid() == 0 {
			d.LocalAddr = &net.TCPAddr{Port: 512 + rand.IntN(512)}
			d.Control = func(_, _ string, raw syscall.RawConn) error {
				var failed error
				err := raw.Control(func(fd uintptr) {
					failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
				})
				return errors.Join(err, failed)
			}
		}
		if nc, err = d.Dial("tcp4", addr); err == nil || !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	c := &Conn{nc: nc, xid: rand.Uint32(), in: make([]byte, keep), buf: make([]byte, 0, 64<<10)}
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err == nil {
		// Good as long as nc is open, which only Close ends.
		err = raw.Control(func(fd uintptr) { c.fd = int(fd) })
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

// Close closes the connection. Nobody uses it any more.
func (c *Conn) Close() error { return c.nc.Close() }

// Do makes one call, and gives its answer, which is valid until the next.
func (c *Conn) Do(call Call) (*Reply, error) {
	var got *Reply
	d := driver{
		conns: []*Conn{c}, window: 1, look: keep,
		next: func(int, time.Duration) (Call, time.Duration) {
			one := call
			call = nil
			return one, 0
		},
		done: func(_ int, r *Reply, _ time.Duration) error {
			got = r
			return nil
		},
	}
	return got, d.run()
}

// begin makes room for so many calls in flight.
func (c *Conn) begin(window int) {
	if len(c.flights) == window {
		return
	}
	c.flights, c.free = make([]flight, window), c.free[:0]
	for i := range window {
		c.free = append(c.free, uint32(i))
	}
}

// flying is how many calls are not answered.
func (c *Conn) flying() int { return len(c.flights) - len(c.free) }

// answered says from when the time of a call counts, which is answered now.
func (c *Conn) answered(xid uint32) (start time.Duration, ok bool) {
	slot := xid % uint32(len(c.flights))
	f := c.flights[slot]
	if f.xid != xid || slices.Contains(c.free, slot) {
		return 0, false
	}
	c.free = append(c.free, slot)
	return f.start, true
}

// put appends a call to what is sent. There must be room for it. Its time counts from
// start.
func (c *Conn) put(call Call, start time.Duration) {
	n, last := uint32(len(c.flights)), len(c.free)-1
	slot := c.free[last]
	c.free = c.free[:last]
	c.xid += n // a number is not used twice
	xid := c.xid - c.xid%n + slot
	c.flights[slot] = flight{xid, start}
	head, rest := call, Call(nil)
	if len(call) > whole {
		head, rest = call[:markSize+4], call[markSize+4:]
	}
	k := len(c.out)
	switch {
	case k == 0:
		c.out = append(c.out, append(c.buf[:0], head...))
		k = 1
	case cap(c.out[k-1]) > len(c.out[k-1]): // no rest of a call, which has no room behind it
		c.out[k-1] = append(c.out[k-1], head...)
	default:
		c.out = append(c.out, append([]byte(nil), head...))
		k++
	}
	b := c.out[k-1]
	binary.BigEndian.PutUint32(b[len(b)-len(head)+markSize:], xid)
	if rest != nil {
		c.out = append(c.out, rest[:len(rest):len(rest)])
	}
}

// send sends what the socket takes.
func (c *Conn) send() error {
	for len(c.out) > 0 {
		var n int
		var err error
		if len(c.out) == 1 {
			n, err = unix.Write(c.fd, c.out[0])
		} else {
			n, err = unix.Writev(c.fd, c.out[:min(len(c.out), maxPieces)])
		}
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return nil
		default:
			return fmt.Errorf("sending: %w", err)
		}
		k := 0
		for ; k < len(c.out) && n >= len(c.out[k]); k++ {
			n -= len(c.out[k])
		}
		if k < len(c.out) {
			c.out[k] = c.out[k][n:]
		}
		c.out = c.out[:copy(c.out, c.out[k:])]
	}
	return nil
}

// receive receives once, what is there.
func (c *Conn) receive(look int) error {
	var n int
	err := error(unix.EINTR)
	for err == unix.EINTR {
		if c.skip > 0 {
			// TCP drops what it is asked to cut off (tcp(7)).
			n, err = recvDrop(c.fd, c.skip)
			continue
		}
		if c.r > 0 {
			c.w = copy(c.in, c.in[c.r:c.w])
			c.r = 0
		}
		to := c.in[c.w:]
		if c.large && len(to) > look {
			to = to[:look]
		}
		n, err = unix.Read(c.fd, to)
	}
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil:
		return fmt.Errorf("receiving: %w", err)
	case n == 0:
		return io.ErrUnexpectedEOF
	case c.skip > 0:
		c.skip -= n
	default:
		c.w += n
	}
	return nil
}

// take gives the next answer that is here whole, of which look bytes are looked at. With
// rest there is none, but the front of one was taken now.
func (c *Conn) take(look int) (r Reply, ok, rest bool, err error) {
	if c.front != nil {
		if c.skip > 0 {
			return r, false, false, nil
		}
		r = parseReply(c.front, c.size)
		c.front = nil
		return r, true, false, nil
	}
	b := c.in[c.r:c.w]
	if len(b) < markSize {
		return r, false, false, nil
	}
	mark := binary.BigEndian.Uint32(b)
	if mark&lastMark == 0 {
		return r, false, false, errors.New("an answer in fragments")
	}
	size := markSize + int(mark&^lastMark)
	c.large = size > apart && look < size
	switch {
	case len(b) >= size:
		c.r += size
		return parseReply(b[:size], size), true, false, nil
	case c.large && len(b) >= look:
		c.front, c.size, c.skip = b, size, size-len(b)
		c.r = c.w
		return r, false, true, nil
	case size > len(c.in) && look >= len(c.in):
		return r, false, false, fmt.Errorf("an answer of %d bytes", size)
	}
	return r, false, false, nil
}

func recvDrop(fd, n int) (int, error) {
	m, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(m), nil
}
