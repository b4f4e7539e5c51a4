package tftp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// lot is how many packets one system call takes.
	lot = 64
	// socketBuffer is room for a packet of each transfer, and to spare.
	socketBuffer = 1 << 20
)

// udpSocket is an unconnected UDP socket over recvmmsg and sendmmsg.
//
// It is not one of the runtime's poller: receive waits in ppoll, in a thread
// that the system wakes. By way of the poller each lot of packets costs a
// thread more that is woken and finds nothing to do, which with one board is
// as much as all the rest.
type udpSocket struct {
	fd, event int // event, an eventfd, interrupts the wait
	armed     atomic.Pointer[time.Time]
	closed    atomic.Bool

	// Of receive and sendAll.
	most    unix.Timespec
	in, out headers
	got     [lot]message
	room    [lot][maxReply]byte
}

// headers are what recvmmsg(2) and sendmmsg(2) are given.
type headers struct {
	msgs  [lot]mmsghdr
	addrs [lot]unix.RawSockaddrInet4
	iovs  [lot]unix.Iovec
}

// mmsghdr is struct mmsghdr: a message and how long it was. The compiler pads
// it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// newUDPSocket opens a socket on a port of its own at one of the host's addresses.
func newUDPSocket(local netip.Addr) (_ *udpSocket, err error) {
	s := &udpSocket{fd: -1, event: -1}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("answering from %s: %w", local, err)
		}
	}()
	if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(s.fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if s.event, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		// Less than that is not an error: what is lost is sent again.
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, option, socketBuffer)
	}
	s.in.link()
	s.out.link()
	for i := range s.room {
		s.in.iovs[i].Base = &s.room[i][0]
		s.in.iovs[i].SetLen(maxReply)
	}
	return s, nil
}

func (h *headers) link() {
	for i := range h.msgs {
		m := &h.msgs[i].hdr
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&h.addrs[i])), unix.SizeofSockaddrInet4
		m.Iov = &h.iovs[i]
		m.SetIovlen(1)
	}
}

func (s *udpSocket) receive(take func([]message)) error {
	for failures, full := 0, 0; ; {
		n, err := s.call(unix.SYS_RECVMMSG, &s.in, lot)
		switch {
		case s.closed.Load():
			s.release()
			return net.ErrClosed
		case err == nil:
			failures = 0
			take(s.taken(n))
		case err != unix.EAGAIN:
			// Of a packet before, perhaps, or of no one client; but never spin on it.
			if failures++; failures > 100 {
				return os.NewSyscallError("recvmmsg", err)
			}
		}
		// Nothing is late that may lie in the socket; but a flood stops no clock.
		const mostFull = 16
		if full++; n == lot && full < mostFull {
			continue
		}
		full = 0
		wait, expired := s.left()
		if expired {
			return os.ErrDeadlineExceeded
		}
		s.wait(unix.POLLIN, wait)
	}
}

// taken are the packets of a call.
func (s *udpSocket) taken(n int) []message {
	for i := range n {
		a := &s.in.addrs[i]
		port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:])
		s.got[i] = message{netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port), s.room[i][:min(int(s.in.msgs[i].len), maxReply)]}
		s.in.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	return s.got[:n]
}

// left is how long receive may wait; nil: for ever.
func (s *udpSocket) left() (wait *unix.Timespec, expired bool) {
	t := s.armed.Load()
	if t == nil {
		return nil, false
	}
	d := time.Until(*t)
	if d <= 0 {
		return nil, true
	}
	s.most = unix.NsecToTimespec(int64(d))
	return &s.most, false
}

// wait waits for the socket, or for somebody to interrupt.
func (s *udpSocket) wait(events int16, most *unix.Timespec) {
	fds := [...]unix.PollFd{{Fd: int32(s.fd), Events: events}, {Fd: int32(s.event), Events: unix.POLLIN}}
	// An error, such as EINTR, is a wait that was short.
	_, _ = unix.Ppoll(fds[:], most, nil)
	if fds[1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(s.event, b[:])
	}
}

// call is one system call for up to n packets.
func (s *udpSocket) call(trap uintptr, h *headers, n int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&h.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(done), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func (s *udpSocket) sendAll(out []message) {
	for len(out) > 0 {
		n := min(len(out), lot)
		s.sendLot(out[:n])
		out = out[n:]
	}
}

func (s *udpSocket) sendLot(out []message) {
	h := &s.out
	for len(out) > 0 {
		for i, m := range out {
			a := &h.addrs[i]
			a.Family, a.Addr = unix.AF_INET, m.addr.Addr().As4()
			binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&a.Port))[:], m.addr.Port())
			h.iovs[i].Base = unsafe.SliceData(m.data)
			h.iovs[i].SetLen(len(m.data))
		}
		n, err := s.call(unix.SYS_SENDMMSG, h, len(out))
		switch {
		case err == unix.EAGAIN:
			// The card is busy with what was sent before. It is not for long.
			full := unix.NsecToTimespec(int64(10 * time.Millisecond))
			s.wait(unix.POLLOUT, &full)
			if n, err = s.call(unix.SYS_SENDMMSG, h, len(out)); err != nil {
				n = len(out)
			}
		case err != nil:
			n = 1 // what this client cannot be sent
		}
		clear(h.iovs[:len(out)]) // holds no buffers
		out = out[n:]
	}
}

func (s *udpSocket) send(m message) {
	_ = unix.Sendto(s.fd, m.data, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: m.addr.Addr().As4(), Port: int(m.addr.Port())})
}

func (s *udpSocket) arm(t time.Time) {
	if t.IsZero() {
		s.armed.Store(nil)
		return
	}
	s.armed.Store(&t)
}

func (s *udpSocket) hurry(t time.Time) {
	s.arm(t)
	s.interrupt()
}

func (s *udpSocket) interrupt() { _, _ = unix.Write(s.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (s *udpSocket) close() {
	s.closed.Store(true)
	s.interrupt()
}

// release gives the descriptors back; receive does it, which is the last to use them.
func (s *udpSocket) release() {
	for _, fd := range []int{s.fd, s.event} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
