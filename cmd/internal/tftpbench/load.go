package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// loadPlan is what the boards do: each reads the file a number of times.
type loadPlan struct {
	clients, files int
	size           int64
	block          int
}

// loaded is what they saw.
type loaded struct {
	slowest time.Duration // the longest time for one file
	again   int           // blocks that came a second time
}

// resend is how long a client waits before it says its last packet again.
const resend = time.Second

// load reads from the server at 127.0.0.1:69. It is one thread over epoll, so
// that it costs little beside the server.
func load(ctx context.Context, p loadPlan) (loaded, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return loaded{}, fmt.Errorf("epoll: %w", err)
	}
	defer unix.Close(ep)
	l := &loader{plan: p, ep: ep, byFD: map[int32]*client{}, in: make([]byte, 65536)}
	defer l.close()
	l.request = fmt.Appendf([]byte{0, 1}, "kernel.img\x00octet\x00tsize\x000\x00blksize\x00%d\x00", p.block)
	for range p.clients {
		if err := l.open(&client{left: p.files}); err != nil {
			return loaded{}, err
		}
	}
	for look := time.Now(); len(l.byFD) > 0; {
		if err := l.wait(); err != nil {
			return loaded{}, err
		}
		if now := time.Now(); now.Sub(look) > 100*time.Millisecond {
			look = now
			if err := l.remind(now); err != nil || ctx.Err() != nil {
				return loaded{}, errors.Join(err, ctx.Err())
			}
		}
	}
	return l.seen, nil
}

type loader struct {
	plan    loadPlan
	ep      int
	byFD    map[int32]*client
	request []byte
	in      []byte
	seen    loaded
}

// client is one board.
type client struct {
	fd        int
	connected bool
	left      int // files, this one included
	begun     time.Time
	heard     time.Time
	next      uint16 // the block that is waited for
	got       int64
	out       [4]byte // the last acknowledgement
	retries   int
}

var server69 = &unix.SockaddrInet4{Port: 69, Addr: [4]byte{127, 0, 0, 1}}

// open makes a client's next socket and asks for the file.
func (l *loader) open(c *client) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	*c = client{fd: fd, left: c.left, begun: time.Now(), heard: time.Now()}
	l.byFD[int32(fd)] = c
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return ignore(unix.Sendto(fd, l.request, 0, server69))
}

// ignore makes nothing of a packet that could not be sent: it is said again.
func ignore(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}

func (l *loader) wait() error {
	var events [128]unix.EpollEvent
	n, err := unix.EpollWait(l.ep, events[:], 100)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range events[:max(n, 0)] {
		if c := l.byFD[e.Fd]; c != nil {
			if err := l.read(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) read(c *client) error {
	n, err := l.receive(c)
	if err != nil || n < 4 {
		return ignore(err)
	}
	b := l.in[:n]
	block := uint16(0)
	switch b[1] {
	case 3:
		block = binary.BigEndian.Uint16(b[2:])
	case 6:
	default:
		return fmt.Errorf("the server said %q", b)
	}
	c.heard, c.retries = time.Now(), 0
	if block != c.next {
		l.seen.again++
		return nil
	}
	c.next++
	c.got += int64(n-4) * int64(b[1]&1) // an OACK (6) has no data
	c.out = [4]byte{0, 4, byte(block >> 8), byte(block)}
	if _, err := unix.Write(c.fd, c.out[:]); ignore(err) != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if b[1] != 3 || n == 4+l.plan.block {
		return nil
	}
	return l.ended(c)
}

// receive reads one packet. The first one says whom to talk to.
func (l *loader) receive(c *client) (int, error) {
	if c.connected {
		return unix.Read(c.fd, l.in)
	}
	n, from, err := unix.Recvfrom(c.fd, l.in, 0)
	if err != nil {
		return 0, err
	}
	c.connected = true
	return n, unix.Connect(c.fd, from)
}

func (l *loader) ended(c *client) error {
	if c.got != l.plan.size {
		return fmt.Errorf("the server sent %d bytes of %d", c.got, l.plan.size)
	}
	l.seen.slowest = max(l.seen.slowest, time.Since(c.begun))
	delete(l.byFD, int32(c.fd))
	if err := unix.Close(c.fd); err != nil {
		return err
	}
	if c.left--; c.left == 0 {
		return nil
	}
	return l.open(c)
}

// remind says again what was not answered.
func (l *loader) remind(now time.Time) error {
	for _, c := range l.byFD {
		if now.Sub(c.heard) < resend {
			continue
		}
		if c.retries++; c.retries > 10 {
			return fmt.Errorf("no answer after %d bytes", c.got)
		}
		c.heard = now
		var err error
		if c.connected {
			_, err = unix.Write(c.fd, c.out[:])
		} else {
			err = unix.Sendto(c.fd, l.request, 0, server69)
		}
		if ignore(err) != nil {
			return err
		}
	}
	return nil
}

func (l *loader) close() {
	for _, c := range l.byFD {
		unix.Close(c.fd)
	}
}
