package nic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"rubus/config/device"
)

// Errors of a Stack that callers tell apart.
var (
	// ErrTimeout says that nothing came before the deadline.
	ErrTimeout = errors.New("no packet in time")
	// ErrNoARP says that nobody on the link has an address.
	ErrNoARP = errors.New("no answer to ARP")
)

const (
	arpTries = 4
	arpWait  = time.Second
	// maxPeers bounds what is remembered of the link.
	maxPeers = 64
	// poll bounds how long a read goes on without a look at its context.
	poll = 250 * time.Millisecond
)

// Stack speaks UDP for one board over a Link: it answers ARP for the board's
// address, and one datagram is in flight at a time, as in firmware. It runs no
// goroutine; incoming frames are looked at only while a call waits for one. Not
// safe for use by several goroutines.
//
// A user-space stack, rather than the board's addresses put on an interface by
// netlink, leaves the host's routes and neighbours alone, needs no namespace,
// and lets the board have oddities of its own (Silent, Checksum).
type Stack struct {
	link Link
	mac  device.MAC

	// Checksum fills in UDP's checksum; a Pi 3 leaves it 0.
	Checksum bool
	// Silent leaves ARP requests for the board's address unanswered.
	Silent bool

	addr    netip.Prefix
	gateway netip.Addr
	peers   map[netip.Addr]device.MAC

	in, out []byte
}

// NewStack makes a Stack without an address. It takes packets for any address
// that come to its MAC until it has one: DHCP offers may be unicast.
func NewStack(link Link, mac device.MAC) *Stack {
	return &Stack{
		link: link, mac: mac, peers: map[netip.Addr]device.MAC{},
		in: make([]byte, MaxFrame), out: make([]byte, 0, MaxFrame),
	}
}

// MAC is the board's address on the link.
func (s *Stack) MAC() device.MAC { return s.mac }

// SetAddr gives the stack an address and, when gateway is valid, a router for
// what is not in the address's network. The invalid prefix takes it away.
func (s *Stack) SetAddr(addr netip.Prefix, gateway netip.Addr) {
	s.addr, s.gateway = addr, gateway
	clear(s.peers)
}

// Send sends one datagram. A destination on the link is asked for by ARP
// first, which may block for four seconds and drops what else arrives; nobody
// there is ErrNoARP.
func (s *Stack) Send(ctx context.Context, srcPort uint16, dst netip.AddrPort, payload []byte) error {
	if ethLen+ipLen+udpLen+len(payload) > MaxFrame {
		return fmt.Errorf("sending %d bytes: too long for one frame", len(payload))
	}
	to := broadcast
	if dst.Addr() != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		var err error
		if to, err = s.resolve(ctx, s.nextHop(dst.Addr())); err != nil {
			return err
		}
	}
	src := netip.AddrPortFrom(netip.IPv4Unspecified(), srcPort)
	if s.addr.IsValid() {
		src = netip.AddrPortFrom(s.addr.Addr(), srcPort)
	}
	b := appendEth(s.out[:0], to, s.mac, etherIPv4)
	return s.write(appendUDP(b, src, dst, payload, s.Checksum))
}

// Receive waits for a datagram until the deadline, which is ErrTimeout. It
// answers ARP meanwhile. The payload is valid until the next call.
func (s *Stack) Receive(ctx context.Context, deadline time.Time) (Datagram, error) {
	for {
		d, _, err := s.next(ctx, deadline)
		if err != nil {
			return Datagram{}, err
		}
		if d != nil {
			return *d, nil
		}
	}
}

func (s *Stack) nextHop(dst netip.Addr) netip.Addr {
	if s.addr.IsValid() && s.gateway.IsValid() && !s.addr.Contains(dst) {
		return s.gateway
	}
	return dst
}

func (s *Stack) resolve(ctx context.Context, addr netip.Addr) (device.MAC, error) {
	if mac, ok := s.peers[addr]; ok {
		return mac, nil
	}
	own := netip.IPv4Unspecified()
	if s.addr.IsValid() {
		own = s.addr.Addr()
	}
	for range arpTries {
		b := appendEth(s.out[:0], broadcast, s.mac, etherARP)
		b = appendARP(b, arpPacket{op: arpRequest, senderMAC: s.mac, sender: own, target: addr})
		if err := s.write(b); err != nil {
			return device.MAC{}, err
		}
		for deadline := time.Now().Add(arpWait); ; {
			_, arp, err := s.next(ctx, deadline)
			if errors.Is(err, ErrTimeout) {
				break
			}
			if err != nil {
				return device.MAC{}, err
			}
			if arp != nil && arp.op == arpReply && arp.sender == addr {
				s.peers[addr] = arp.senderMAC
				return arp.senderMAC, nil
			}
		}
	}
	return device.MAC{}, fmt.Errorf("asking who has %s: %w", addr, ErrNoARP)
}

// next reads one frame. Both results are nil when it was none for this board.
func (s *Stack) next(ctx context.Context, deadline time.Time) (*Datagram, *arpPacket, error) {
	n, err := s.read(ctx, deadline)
	if err != nil {
		return nil, nil, err
	}
	dst, src, etherType, payload, err := splitEth(s.in[:n])
	if err != nil || src == s.mac || (dst != s.mac && dst != broadcast) {
		return nil, nil, nil
	}
	switch etherType {
	case etherARP:
		arp, err := parseARP(payload)
		if err != nil {
			return nil, nil, nil
		}
		return nil, &arp, s.answer(arp)
	case etherIPv4:
		d, err := parseUDP(payload, s.link.Checksums())
		if err != nil || !s.accepts(d.Dst.Addr()) {
			return nil, nil, nil
		}
		d.SrcMAC = src
		return &d, nil, nil
	}
	return nil, nil, nil
}

func (s *Stack) accepts(dst netip.Addr) bool {
	return !s.addr.IsValid() || dst == s.addr.Addr() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (s *Stack) answer(q arpPacket) error {
	if q.op != arpRequest || !s.addr.IsValid() || q.target != s.addr.Addr() {
		return nil
	}
	// Who asks will be asked back (RFC 826, "Packet Reception").
	if len(s.peers) < maxPeers {
		s.peers[q.sender] = q.senderMAC
	}
	if s.Silent {
		return nil
	}
	b := appendEth(s.out[:0], q.senderMAC, s.mac, etherARP)
	return s.write(appendARP(b, arpPacket{
		op: arpReply, senderMAC: s.mac, sender: q.target, targetMAC: q.senderMAC, target: q.sender,
	}))
}

// write pads a frame to Ethernet's least length (without the FCS) and sends it.
func (s *Stack) write(b []byte) error {
	const least = 60
	for len(b) < least {
		b = append(b, 0)
	}
	if err := s.link.WriteFrame(b); err != nil {
		return fmt.Errorf("sending a frame: %w", err)
	}
	return nil
}

func (s *Stack) read(ctx context.Context, deadline time.Time) (int, error) {
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		until := time.Now().Add(poll)
		if deadline.Before(until) {
			until = deadline
		}
		if err := s.link.SetReadDeadline(until); err != nil {
			return 0, fmt.Errorf("setting a read deadline: %w", err)
		}
		n, err := s.link.ReadFrame(s.in)
		switch {
		case err == nil:
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, fmt.Errorf("reading a frame: %w", err)
		case !time.Now().Before(deadline):
			return 0, ErrTimeout
		}
	}
}
