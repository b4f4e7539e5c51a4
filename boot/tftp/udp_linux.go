package tftp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
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
// It is not one of the runtime's poller: receive waits in recvmmsg, in a thread that
// the system wakes. By way of the poller each lot of packets costs a thread more that
// is woken and finds nothing to do, which with one board is as much as all the rest;
// to wait in ppoll first is a system call more for each lot.
type udpSocket struct {
	fd     int
	closed atomic.Bool

	// Of receive and sendAll.
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
	s := &udpSocket{fd: -1}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("answering from %s: %w", local, err)
		}
	}()
	if s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(s.fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return nil, os.NewSyscallError("bind", err)
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

func (s *udpSocket) receive(take func([]message, bool)) error {
	for failures := 0; ; {
		n, err := s.call(unix.SYS_RECVMMSG, &s.in, lot, unix.MSG_WAITFORONE)
		switch {
		case s.closed.Load():
			return net.ErrClosed
		case err == nil:
			failures = 0
			take(s.taken(n), n < lot)
		default:
			// Of a packet before, perhaps, or of no one client; but never spin on it.
			if failures++; failures > 100 {
				return os.NewSyscallError("recvmmsg", err)
			}
		}
	}
}

func (s *udpSocket) waiting() bool { return s.poll(unix.POLLIN, 0) }

// poll waits for so many milliseconds. An error, such as EINTR, is a wait that was short.
func (s *udpSocket) poll(events int16, most int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, most)
	return n > 0
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

// call is one system call for up to n packets.
func (s *udpSocket) call(trap uintptr, h *headers, n int, flags uintptr) (int, error) {
	for {
		done, _, errno := unix.Syscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&h.msgs[0])), uintptr(n), flags, 0, 0)
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
		n, err := s.call(unix.SYS_SENDMMSG, h, len(out), unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			// The card is busy with what was sent before. It is not for long.
			s.poll(unix.POLLOUT, 10)
			if n, err = s.call(unix.SYS_SENDMMSG, h, len(out), unix.MSG_DONTWAIT); err != nil {
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

// close interrupts receive.
func (s *udpSocket) close() {
	s.closed.Store(true)
	// It says ENOTCONN, and wakes who waits all the same (net/ipv4/af_inet.c, inet_shutdown).
	_ = unix.Shutdown(s.fd, unix.SHUT_RD)
}

func (s *udpSocket) release() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}
