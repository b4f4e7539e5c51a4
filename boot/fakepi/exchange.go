package fakepi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"rubus/boot/fakepi/nic"
)

const (
	clientPort = 68
	serverPort = 67
)

// Reasons why a board gets no further than DHCP.
var (
	ErrNoOffer   = errors.New("no OFFER came: no DHCP server, or the network was not ready")
	ErrNoAddress = errors.New("no OFFER had an address: is the site's DHCP server there?")
	ErrNoServer  = errors.New("no OFFER named a boot server: is rubus there, and does it know the board?")
	ErrNAK       = errors.New("the address server said NAK")
	ErrNoACK     = errors.New("the address server sent no ACK")
)

// lease is what a stage has made of the offers so far.
type lease struct {
	offers  int
	address Offer // the one with the board's address; zero: none yet
	server  choice
}

// add takes one more offer into account, in the order they came: the first
// address stays, and the last server that is not weak wins.
func (l *lease) add(s *dhcpStyle, o Offer) {
	l.offers++
	if !l.address.Address.IsValid() && o.Address.IsValid() {
		l.address = o
	}
	c, ok := s.server(o)
	if ok && (!c.weak || !l.server.addr.IsValid()) {
		l.server = c
	}
}

// done says that there is nothing more to wait for.
func (l *lease) done() bool {
	return l.address.Address.IsValid() && l.server.addr.IsValid() && !l.server.weak
}

// err says what is missing when the time is over.
func (l *lease) err() error {
	switch {
	case l.offers == 0:
		return ErrNoOffer
	case !l.address.Address.IsValid():
		return ErrNoAddress
	case !l.server.addr.IsValid():
		return ErrNoServer
	}
	return nil
}

// dhcp gets the board an address and a TFTP server.
func (r *run) dhcp(ctx context.Context, s *dhcpStyle) error {
	r.stack.SetAddr(netip.Prefix{}, netip.Addr{})
	xid := s.xid
	if xid == 0 {
		xid = r.opt.Rand.Uint32()
	}
	l, err := r.obtain(ctx, s, xid)
	if err != nil {
		return err
	}
	bits, router := l.address.Bits, netip.Addr{}
	if bits == 0 || !s.gateway {
		bits = 0 // Without a mask everything is taken to be on the link.
	} else {
		router = l.address.Router
	}
	r.stack.SetAddr(netip.PrefixFrom(l.address.Address, bits), router)
	r.res.Address, r.res.Router = netip.PrefixFrom(l.address.Address, l.address.Bits), l.address.Router
	r.res.AddressServer, r.res.Server, r.res.Why = l.address.Server, l.server.addr, l.server.why
	r.event(Event{Kind: KindAddress, From: l.server.addr, Text: fmt.Sprintf(
		"%s from %s; files from %s (%s)", r.res.Address, l.address.Server, l.server.addr, l.server.why)})
	return nil
}

// obtain gets an address and, where firmware confirms it, the server's word for
// it. An address that was given to another meanwhile is not the end: a client
// that hears NAK begins anew (RFC 2131, section 3.1). No capture shows one; the
// wait before, different on each board, is ours.
func (r *run) obtain(ctx context.Context, s *dhcpStyle, xid uint32) (*lease, error) {
	const tries = 5
	for try := 1; ; try++ {
		l, err := r.gather(ctx, s, xid)
		if err != nil || !s.request {
			return l, err
		}
		err = r.confirm(ctx, s, xid, l.address)
		if try == tries || !errors.Is(err, ErrNAK) {
			return l, err
		}
		wait := time.Second + time.Duration(r.opt.Rand.Int64N(int64(2*time.Second)))
		if err := r.sleepUntil(ctx, time.Now().Add(r.patience(wait))); err != nil {
			return nil, err
		}
	}
}

// gather sends DISCOVERs and collects OFFERs until it has all it needs, or the
// stage's time is over.
func (r *run) gather(ctx context.Context, s *dhcpStyle, xid uint32) (*lease, error) {
	l := &lease{}
	packet := discover(s, r.board, xid)
	start := time.Now()
	for i, at := range s.sends {
		until := s.end
		if i+1 < len(s.sends) {
			until = s.sends[i+1]
		}
		if err := r.sleepUntil(ctx, start.Add(r.patience(at))); err != nil {
			return nil, err
		}
		sent := time.Now()
		if err := r.broadcast(ctx, packet); err != nil {
			return nil, err
		}
		r.event(Event{Kind: KindDiscover, Retries: i, Text: fmt.Sprintf("%d bytes, xid %08x", len(packet), xid)})
		deadline := start.Add(r.patience(until))
		if s.window > 0 {
			// What comes within the window is looked at together.
			if w := sent.Add(r.patience(s.window)); w.Before(deadline) {
				if err := r.offers(ctx, s, xid, l, w, false); err != nil {
					return nil, err
				}
			}
		}
		if !l.done() {
			if err := r.offers(ctx, s, xid, l, deadline, true); err != nil {
				return nil, err
			}
		}
		if l.done() {
			return l, nil
		}
	}
	return l, l.err()
}

// offers takes in OFFERs until the deadline or, if eager, until that will do.
func (r *run) offers(ctx context.Context, s *dhcpStyle, xid uint32, l *lease, deadline time.Time, eager bool) error {
	for {
		o, err := r.reply(ctx, deadline)
		if errors.Is(err, nic.ErrTimeout) {
			return nil
		}
		if err != nil {
			return err
		}
		if o.kind != msgOffer || o.xid != xid || (!s.anyMAC && o.mac != r.board.MAC) {
			continue
		}
		r.event(Event{Kind: KindOffer, From: o.Source, Text: describe(o)})
		if s.relayless && o.Relayed {
			r.note("it came through a relay: this firmware does not take it")
			continue
		}
		l.add(s, o)
		if o.Boot && !o.Padded && s.window > 0 {
			r.note("the text in option 43 is not padded with spaces: some Pi 3B ROMs pass it over")
		}
		if eager && l.done() {
			return nil
		}
	}
}

// confirm asks for the offered address and waits for the ACK.
func (r *run) confirm(ctx context.Context, s *dhcpStyle, xid uint32, o Offer) error {
	if !o.Server.IsValid() {
		return fmt.Errorf("the OFFER of %s has no server identifier (option 54)", o.Address)
	}
	packet := request(s, r.board, xid, o)
	const tries = 3
	for i := range tries {
		if err := r.broadcast(ctx, packet); err != nil {
			return err
		}
		r.event(Event{Kind: KindRequest, Retries: i, From: o.Server, Text: "for " + o.Address.String()})
		for deadline := time.Now().Add(r.patience(s.ackWait)); ; {
			a, err := r.reply(ctx, deadline)
			if errors.Is(err, nic.ErrTimeout) {
				break
			}
			if err != nil {
				return err
			}
			if a.xid != xid || a.mac != r.board.MAC || a.Server != o.Server {
				continue
			}
			if s.relayless && a.Relayed {
				continue // rpi-eeprom issue 58
			}
			switch a.kind {
			case msgACK:
				r.event(Event{Kind: KindAck, From: a.Source, Text: "ACK of " + a.Address.String()})
				return nil
			case msgNAK:
				r.event(Event{Kind: KindAck, From: a.Source, Text: "NAK"})
				return ErrNAK
			}
		}
	}
	return ErrNoACK
}

// reply waits for a DHCP packet from a server; what makes no sense is passed over.
func (r *run) reply(ctx context.Context, deadline time.Time) (Offer, error) {
	for {
		d, err := r.stack.Receive(ctx, deadline)
		if err != nil {
			return Offer{}, err
		}
		if d.Dst.Port() != clientPort || d.Src.Port() != serverPort {
			continue
		}
		if o, err := parseOffer(d.Payload, d.Src.Addr()); err == nil {
			return o, nil
		}
	}
}

func (r *run) broadcast(ctx context.Context, packet []byte) error {
	all := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort)
	return r.stack.Send(ctx, clientPort, all, packet)
}

// describe puts an offer into words.
func describe(o Offer) string {
	var parts []string
	if o.Address.IsValid() {
		parts = append(parts, fmt.Sprintf("address %s/%d", o.Address, o.Bits))
	}
	if o.Boot {
		parts = append(parts, `option 43 "`+bootText+`"`)
	}
	if o.TFTPText != "" {
		parts = append(parts, fmt.Sprintf("option 66 %q", o.TFTPText))
	}
	if o.Next.IsValid() {
		parts = append(parts, "siaddr "+o.Next.String())
	}
	if len(parts) == 0 {
		return "with nothing a board could use"
	}
	return strings.Join(parts, ", ")
}
