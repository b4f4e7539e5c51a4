package nfsload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keep is how much of a reply is looked at; the rest is received and dropped by
// the kernel. It holds every reply to one Call of Do.
const keep = 128 << 10

// Conn is a connection to an RPC server. It is for one goroutine at a time.
type Conn struct {
	nc   net.Conn
	raw  syscall.RawConn
	xid  uint32
	in   []byte // in[r:w] came and is not looked at yet
	r, w int
	out  []byte
	skip int // bytes of the last reply still to be dropped

	starts []time.Time // of the calls in flight, by number modulo the window
}

// Dial connects to an RPC server. As root it calls from a port below 1024, as
// kernels do.
func Dial(addr string) (*Conn, error) {
	var nc net.Conn
	var err error
	for range 64 {
		d := net.Dialer{Timeout: 10 * time.Second}
		if unix.Geteuid() == 0 {
			d.LocalAddr = &net.TCPAddr{Port: 512 + rand.IntN(512)}
		}
		if nc, err = d.Dial("tcp4", addr); err == nil || !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return &Conn{nc: nc, raw: raw, xid: rand.Uint32(), in: make([]byte, keep)}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.nc.Close() }

// Do makes one call, and gives its answer, which is valid until the next.
func (c *Conn) Do(call Call) (*Reply, error) {
	var got *Reply
	_, err := c.pump(1, keep, func() Call {
		one := call
		call = nil
		return one
	}, func(r *Reply, _ time.Duration) error {
		got = r
		return nil
	})
	return got, err
}

// pump keeps window calls in flight until next gives nil, and then waits for the
// answers. Of each answer at most look bytes are given to done.
func (c *Conn) pump(window, look int, next func() Call, done func(*Reply, time.Duration) error) (calls int, err error) {
	if len(c.starts) != window {
		c.starts = make([]time.Time, window)
	}
	flying := 0
	now := time.Now()
	c.out = c.out[:0]
	for ; flying < window; flying++ {
		if !c.add(next, now) {
			break
		}
	}
	for flying > 0 {
		if err := c.flush(); err != nil {
			return calls, err
		}
		if err := c.fill(); err != nil {
			return calls, err
		}
		now = time.Now()
		for {
			reply, ok, err := c.take(look)
			if err != nil {
				return calls, err
			}
			if !ok {
				break
			}
			slot := reply.xid % uint32(window)
			if err := done(&reply, now.Sub(c.starts[slot])); err != nil {
				return calls, err
			}
			calls++
			if !c.addAt(next, slot, now) {
				flying--
			}
		}
	}
	return calls, nil
}

// add appends the next call, with the next number, to what is sent.
func (c *Conn) add(next func() Call, now time.Time) bool {
	c.xid++
	return c.addAt(next, c.xid%uint32(len(c.starts)), now)
}

// addAt is add, with a number that stands for the slot.
func (c *Conn) addAt(next func() Call, slot uint32, now time.Time) bool {
	call := next()
	if call == nil {
		return false
	}
	n := uint32(len(c.starts))
	c.xid += n // a number is not used twice
	xid := c.xid - c.xid%n + slot
	at := len(c.out)
	c.out = append(c.out, call...)
	binary.BigEndian.PutUint32(c.out[at+markSize:], xid)
	c.starts[slot] = now
	return true
}

func (c *Conn) flush() error {
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// fill receives something.
func (c *Conn) fill() error {
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	var n int
	var err error
	readErr := c.raw.Read(func(fd uintptr) bool {
		for {
			if c.skip > 0 {
				// TCP drops what it is asked to cut off (tcp(7)).
				n, err = recvDrop(int(fd), c.skip)
			} else {
				n, err = unix.Read(int(fd), c.in[c.w:])
			}
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case readErr != nil:
		return readErr
	case err != nil:
		return err
	case n == 0:
		return io.ErrUnexpectedEOF
	case c.skip > 0:
		c.skip -= n
	default:
		c.w += n
	}
	return nil
}

// take gives the next answer once look bytes of it, or all, are there.
func (c *Conn) take(look int) (r Reply, ok bool, err error) {
	b := c.in[c.r:c.w]
	if c.skip > 0 || len(b) < markSize {
		return r, false, nil
	}
	mark := binary.BigEndian.Uint32(b)
	if mark&lastMark == 0 {
		return r, false, errors.New("an answer in fragments")
	}
	size := markSize + int(mark&^lastMark)
	have := min(size, len(b))
	if have < min(size, look) {
		if size > len(c.in) && look >= len(c.in) {
			return r, false, fmt.Errorf("an answer of %d bytes", size)
		}
		return r, false, nil
	}
	r = parseReply(b[:have], size)
	c.r += have
	if c.skip = size - have; c.skip > 0 {
		// It is complete when the rest is here.
		for c.skip > 0 {
			if err := c.fill(); err != nil {
				return r, false, err
			}
		}
	}
	return r, true, nil
}

func recvDrop(fd, n int) (int, error) {
	m, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(m), nil
}
