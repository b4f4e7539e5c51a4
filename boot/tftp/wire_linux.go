package tftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wire is the way to one client: packets to it, and from it and nobody else.
// One goroutine uses it; interrupt may come from any.
type wire interface {
	// exchange sends a packet and waits for one until the deadline, which is
	// os.ErrDeadlineExceeded. With again it first looks whether an answer is
	// there already, and then sends nothing. A nil packet is not sent. What a
	// packet has beyond len(in) is cut off.
	exchange(packet, in []byte, again bool, deadline time.Time) (int, error)
	// send sends a packet that is not answered.
	send(packet []byte)
	// interrupt makes exchange fail from now on.
	interrupt()
}

var errInterrupted = errors.New("interrupted")

// udpWire is a connected socket.
//
// A packet goes out from within the wait for its answer, in one call of the
// runtime's poller: sent before, there would be one more system call for each
// block, a read that finds nothing. And the deadline is not set for each block
// but found to be too early when it has passed, a few times a second.
type udpWire struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	// step is w.poll, made once: a closure is an allocation.
	step  func(uintptr) bool
	armed time.Time // the deadline that is set; zero: none
	over  atomic.Bool

	// What the exchange under way sends and gets.
	packet, in []byte
	again      bool
	n          int
	err        error
}

// dial opens the socket of one transfer: on a port of its own, from the
// address the client asked, and open to no one else.
func dial(ctx context.Context, local netip.Addr, client netip.AddrPort) (*udpWire, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	conn, err := d.DialContext(ctx, "udp4", client.String())
	if err != nil {
		return nil, fmt.Errorf("answering from %s: %w", local, err)
	}
	w := &udpWire{conn: conn.(*net.UDPConn)}
	if w.raw, err = w.conn.SyscallConn(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("answering from %s: %w", local, err)
	}
	w.step = w.poll
	return w, nil
}

// mtu is the largest packet of the way to the client.
func (w *udpWire) mtu() int {
	mtu := 0
	err := w.raw.Control(func(fd uintptr) {
		// Of the route, or less once a router on it said so (ip(7)).
		mtu, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
	})
	if err != nil || mtu <= 0 {
		return 1500
	}
	return mtu
}

func (w *udpWire) exchange(packet, in []byte, again bool, deadline time.Time) (int, error) {
	w.packet, w.in, w.again = packet, in, again
	for {
		if err := w.arm(deadline); err != nil {
			return 0, err
		}
		err := w.raw.Read(w.step)
		switch {
		case w.over.Load():
			return 0, errInterrupted
		case errors.Is(err, os.ErrDeadlineExceeded):
			if w.armed = (time.Time{}); time.Now().Before(deadline) {
				continue // it was one of a block before
			}
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		}
		return w.n, w.err
	}
}

// arm sees to it that a deadline is set that is not later than the given one.
func (w *udpWire) arm(deadline time.Time) error {
	if !w.armed.IsZero() && !w.armed.After(deadline) {
		return nil
	}
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	w.armed = deadline
	// An interrupt sets a deadline, too: it may have come in between.
	if w.over.Load() {
		return errInterrupted
	}
	return nil
}

// poll is called before each wait for the socket, and false waits.
func (w *udpWire) poll(fd uintptr) bool {
	if w.packet == nil || w.again {
		w.n, w.err = atOnce(unix.SYS_READ, fd, w.in)
		if !errors.Is(w.err, unix.EAGAIN) {
			return true
		}
	}
	if w.packet == nil {
		return false
	}
	packet := w.packet
	w.packet = nil
	// A packet that cannot be sent now is a lost one. What was refused is one
	// of the packets before: the client's port is closed.
	_, w.err = atOnce(unix.SYS_WRITE, fd, packet)
	w.n = 0
	return errors.Is(w.err, unix.ECONNREFUSED)
}

// atOnce reads or writes one packet. The socket is non-blocking, so the call is
// short: the scheduler need not be told of it, which saves it from finding, on a
// busy machine, that the call takes long, and from moving everybody else to
// another thread.
func atOnce(call, fd uintptr, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func (w *udpWire) send(packet []byte) { _, _ = w.conn.Write(packet) }

func (w *udpWire) interrupt() {
	w.over.Store(true)
	_ = w.conn.SetReadDeadline(time.Unix(1, 0))
}

func (w *udpWire) close() { _ = w.conn.Close() }
