package sunrpc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

const (
	// datagramCalls and datagramsEach are how many long calls that came by datagram run at
	// once, in all and of one address; further ones are dropped, and their clients ask again.
	// One has a 32nd of what is left, as of bytes.
	datagramCalls, datagramsEach, partOfDatagrams = 256, 4, 32
	// amplify bounds a reply by the length of the call: a datagram's sender may
	// be forged, and whoever is hit by the reply should not be hit harder than
	// the forger could himself.
	amplify = 2
	// maxDatagram is the longest datagram looked at; the calls served over UDP
	// are short.
	maxDatagram = smallBuffer
)

// senders are those of whom long calls run that came by datagram.
type senders struct {
	mu  sync.Mutex
	of  map[netip.Addr]*holding
	all *purse
}

// begin says whether one more may run.
func (s *senders) begin(of netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of[of]
	if h == nil {
		h = &holding{of: s.all}
	}
	if !h.try(1) {
		return false
	}
	s.of[of] = h
	return true
}

func (s *senders) end(of netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.of[of]
	if h.give(1); h.holds() == 0 {
		delete(s.of, of)
	}
}

// datagrams serves the calls that come to pc until its read deadline passes.
func (s *Server) datagrams(ctx context.Context, pc net.PacketConn) error {
	uc, ok := pc.(*net.UDPConn)
	if !ok {
		return errors.New("not a UDP socket")
	}
	if !s.peers.hold() {
		return nil
	}
	defer s.peers.inside.Done()
	askDestination(uc)
	d := &datagram{s: s, uc: uc}
	in, oob := make([]byte, maxDatagram), make([]byte, 128)
	var call Call
	w := xdr.Writer{Buf: make([]byte, 0, smallBuffer)}
	for {
		n, oobn, flags, from, err := uc.ReadMsgUDPAddrPort(in, oob)
		if err != nil {
			if s.stopping.Load() {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue // an ICMP error about an earlier reply
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if flags&unix.MSG_TRUNC != 0 || s.datagramFrom != nil && !s.datagramFrom(from.Addr()) {
			continue
		}
		call.Peer, call.UDP = from, true
		w.Truncate(0)
		d.handle(ctx, &call, in[:n], replySource(oob[:oobn]), &w)
	}
}

// datagram is one UDP socket.
type datagram struct {
	s  *Server
	uc *net.UDPConn
}

// handle runs one call. oob is the control message that gives the reply the
// address the call was sent to.
func (d *datagram) handle(ctx context.Context, c *Call, msg, oob []byte, w *xdr.Writer) {
	v := parse(msg, c)
	if v == notCall {
		return
	}
	var p *program
	st := Success
	if v == goodCall {
		p, st = d.s.find(c)
	}
	if v != goodCall || st != Success {
		d.s.refuse(c, v, p, st, w)
		d.send(w.Buf, len(msg), c.Peer, oob)
		return
	}
	plan := p.Plan(c)
	if !plan.Long {
		if d.s.answer(ctx, p, c, plan.Once, w) {
			d.send(w.Buf, len(msg), c.Peer, oob)
		}
		return
	}
	sender := c.Peer.Addr()
	if !d.s.dgrams.begin(sender) {
		return
	}
	long, copied := *c, append([]byte(nil), msg...)
	long.Args = xdr.NewReader(copied[len(copied)-c.Args.Len():])
	oob = append([]byte(nil), oob...)
	d.s.peers.inside.Go(func() {
		defer d.s.dgrams.end(sender)
		w := xdr.Writer{Buf: make([]byte, 0, headRoom)}
		if d.s.answer(ctx, p, &long, plan.Once, &w) {
			d.send(w.Buf, len(copied), long.Peer, oob)
		}
	})
}

// send sends a reply to a call of asked bytes, unless that would amplify.
func (d *datagram) send(reply []byte, asked int, to netip.AddrPort, oob []byte) {
	if len(reply) > amplify*asked {
		return
	}
	// A lost reply is asked for again.
	_, _, _ = d.uc.WriteMsgUDPAddrPort(reply, oob, to)
}

// askDestination asks the kernel for the address each datagram was sent to: a
// machine with several addresses must answer from the one that was asked, and
// a socket bound to all of them would not.
func askDestination(uc *net.UDPConn) {
	raw, err := uc.SyscallConn()
	if err != nil {
		return
	}
	// An IPv6 socket gets IPv4 datagrams too; either option may not apply.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

// replySource turns the control message of a datagram into the one that sends
// the reply from the same address, in place. For IPv4 the message says which
// address of ours the kernel took the datagram for (ipi_spec_dst), and the
// same field chooses the source. The interface is left to the routing table.
func replySource(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])}
			if info.Spec_dst == [4]byte{} {
				// It was queued before askDestination; its header still knows.
				info.Spec_dst = [4]byte(m.Data[8:12])
			}
			return unix.PktInfo4(&info)
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}
			if netip.AddrFrom16(info.Addr).Is4In6() {
				continue // its SOL_IP message says it better
			}
			return unix.PktInfo6(&info)
		}
	}
	return nil
}
