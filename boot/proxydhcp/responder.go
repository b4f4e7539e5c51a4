package proxydhcp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// responder is the server without its sockets: frames in, frames out. It
// implements dhcplink.Handler.
type responder struct {
	decider pidhcp.Decider
	clock   dhcplink.Clock
	log     *slog.Logger
	observe func(pidhcp.Event)
	pin     netip.Addr
	manners pidhcp.Manners
	limit   *dhcplink.Limiter
	repeats *dhcplink.Repeats

	mu     sync.Mutex
	leases leaseBook
	own    map[netip.Addr]int // our addresses, by how many links have them
}

// Hear implements dhcplink.Handler.
func (r *responder) Hear(ctx context.Context, out dhcplink.Outlet, frame []byte, outgoing bool) {
	l, ok := out.Link()
	if !ok {
		return
	}
	event := pidhcp.Event{What: pidhcp.Ignored, Time: r.clock.Now(), Interface: l.Name}
	d, err := dhcplink.ParseFrame(frame)
	if err != nil {
		event.Reason = pidhcp.Malformed
		r.tell(event)
		return
	}
	m, err := dhcpv4.FromBytes(d.Payload)
	switch {
	case err != nil:
		event.Reason = pidhcp.Malformed
		r.tell(event)
	case m.OpCode == dhcpv4.OpcodeBootReply:
		r.hearServer(event, m, d, outgoing)
	case outgoing:
		// A client or relay of this host: its server hears it, no board does.
	default:
		r.hearClient(ctx, out, l, event, m, d.Dst.Addr())
	}
}

// Changed implements dhcplink.Handler.
func (r *responder) Changed(_ dhcplink.Outlet, l dhcplink.Link, served bool, err error) {
	e := pidhcp.Event{What: pidhcp.Gone, Time: r.clock.Now(), Interface: l.Name, Err: err}
	if served {
		e.What, e.Server = pidhcp.Listening, l.Addrs[0].Addr()
	}
	r.tell(e)
}

// hearServer notes what other servers say.
func (r *responder) hearServer(event pidhcp.Event, m *dhcpv4.DHCPv4, d dhcplink.Datagram, outgoing bool) {
	o, ok := pidhcp.OfferFrom(m, d.Src.Addr())
	if !ok {
		return
	}
	r.mu.Lock()
	ours := r.own[o.Source] > 0 && o.IsReply()
	if o.Address.IsValid() {
		r.leases.note(o.Client, o.Address)
	}
	r.mu.Unlock()
	if ours {
		return
	}
	o.SameHost = outgoing
	event.What, event.Offer = pidhcp.OtherOffer, o
	r.tell(event)
}

// hearClient answers a Pi, if the decider wants it.
func (r *responder) hearClient(ctx context.Context, out dhcplink.Outlet, l dhcplink.Link, event pidhcp.Event, m *dhcpv4.DHCPv4, dst netip.Addr) {
	req, err := pidhcp.FromMessage(m, r.manners.OUIs)
	if err != nil {
		event.Reason, _ = err.(pidhcp.Reason)
		r.tell(event)
		return
	}
	event.Request = req
	if req.Type != dhcpv4.MessageTypeDiscover || req.GIAddr.IsValid() && !dhcplink.IsUnicast(req.GIAddr) {
		event.What = pidhcp.Noted
		r.tell(event)
		return
	}
	if !r.limit.Board(req.MAC, event.Time) {
		event.What = pidhcp.Limited
		r.tell(event)
		return
	}
	server, ok := l.Server(r.pin, dst, r.leased(req.MAC))
	if !ok {
		event.What, event.Err = pidhcp.Failed, errNoAddress
		r.tell(event)
		return
	}
	decision := r.decider.Decide(ctx, pidhcp.Sighting{Request: req, Time: event.Time, Interface: l.Name, Server: server})
	event.Why = decision.Why
	switch {
	case !decision.Answer:
		event.What = pidhcp.Refused
		r.tell(event)
	case !r.limit.Answer(event.Time):
		event.What = pidhcp.Limited
		r.tell(event)
	default:
		r.answer(ctx, out, answer{event: event, dst: dst, client: decision.Client})
	}
}

// answer is an OFFER to be sent, now or again.
type answer struct {
	event pidhcp.Event
	// dst is where the request was sent to, client the address that the board
	// will have, if known.
	dst, client netip.Addr
}

// answer sends the OFFER as often as the board's firmware needs it. A DISCOVER
// ends what an earlier one of the same board left to do.
func (r *responder) answer(ctx context.Context, out dhcplink.Outlet, a answer) {
	req := a.event.Request
	r.repeats.Do(req.MAC, r.manners.Of(req.Kind).Offers, func(again bool) {
		a := a
		a.event.What, a.event.Time = pidhcp.Answered, r.clock.Now()
		if again {
			a.event.What = pidhcp.Repeated
		}
		r.send(ctx, out, a)
	})
}

// send sends one OFFER now. Our address is chosen now too: in the 600 ms since
// the DISCOVER the address server has told where the board will be.
func (r *responder) send(ctx context.Context, out dhcplink.Outlet, a answer) {
	l, ok := out.Link()
	if !ok {
		return
	}
	client := a.client
	if !client.IsValid() {
		client = r.leased(a.event.Request.MAC)
	}
	server, ok := l.Server(r.pin, a.dst, client)
	if !ok {
		return
	}
	a.event.Server = server
	req := a.event.Request
	to := dhcplink.Everybody()
	if r.manners.Of(req.Kind).Delivery == pidhcp.ToBoard {
		to.MAC = req.MAC
	}
	if err := dhcplink.Deliver(ctx, out, req.Header, server, to, pidhcp.Reply(req, server, r.manners)); err != nil {
		a.event.What, a.event.Err = pidhcp.Failed, err
	}
	r.tell(a.event)
}

// leased is the address another server last offered to a board.
func (r *responder) leased(mac device.MAC) netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leases.address(mac)
}

// Own implements dhcplink.Handler.
func (r *responder) Own(addrs []netip.Prefix, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addrs {
		if r.own[a.Addr()] += by; r.own[a.Addr()] <= 0 {
			delete(r.own, a.Addr())
		}
	}
}

// tell logs and observes an event. No lock is held.
func (r *responder) tell(e pidhcp.Event) {
	switch e.What {
	case pidhcp.Listening:
		r.log.Info("listening for boot requests", "interface", e.Interface, "address", e.Server)
	case pidhcp.Gone:
		attrs := []any{"interface", e.Interface}
		if e.Err != nil { // else rubus stops
			attrs = append(attrs, "error", e.Err)
		}
		r.log.Info("no longer listening for boot requests", attrs...)
	case pidhcp.Failed:
		r.log.Warn("cannot send an OFFER", "interface", e.Interface, "mac", e.Request.MAC, "error", e.Err)
	case pidhcp.OtherOffer:
		r.log.Debug("another server's offer", "interface", e.Interface, "mac", e.Offer.Client,
			"server", e.Offer.ServerID, "address", e.Offer.Address, "option66", e.Offer.BootServer)
	case pidhcp.Ignored:
		r.log.Debug("not a Pi's request", "interface", e.Interface, "reason", e.Reason)
	default:
		r.log.Debug("boot request "+string(e.What), "interface", e.Interface, "mac", e.Request.MAC,
			"serial", e.Request.Serial, "kind", e.Request.Kind, "why", e.Why)
	}
	if r.observe != nil {
		r.observe(e)
	}
}

var errNoAddress = errors.New("the address to answer from has left the interface")
