package proxydhcp

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/config/device"
)

// outlet is where a request came in and its answer goes out.
type outlet interface {
	// link is the interface as it is now; ok is false once it is gone.
	link() (l link, ok bool)
	// broadcast sends an Ethernet frame.
	broadcast(ctx context.Context, frame []byte) error
	// route sends an IPv4 packet wherever it is addressed to.
	route(ctx context.Context, packet []byte, to netip.Addr) error
}

// responder is the server without its sockets: frames in, frames out.
type responder struct {
	decider Decider
	clock   Clock
	log     *slog.Logger
	observe func(Event)
	pin     netip.Addr
	delays  []time.Duration // when a Pi 3 ROM's OFFERs leave
	limit   *limiter

	mu      sync.Mutex
	leases  leaseBook
	own     map[netip.Addr]int // our addresses, by how many outlets have them
	pending map[device.MAC]*offers
	closed  bool
}

// offers are the delayed OFFERs to one board.
type offers struct {
	left int
	stop []func() bool
}

// handle deals with one frame. outgoing says that this host sent it.
func (r *responder) handle(ctx context.Context, out outlet, frame []byte, outgoing bool) {
	l, ok := out.link()
	if !ok {
		return
	}
	event := Event{What: Ignored, Time: r.clock.Now(), Interface: l.name}
	d, err := parseFrame(frame)
	if err != nil {
		event.Reason = Malformed
		r.tell(event)
		return
	}
	m, err := dhcpv4.FromBytes(d.payload)
	switch {
	case err != nil:
		event.Reason = Malformed
		r.tell(event)
	case m.OpCode == dhcpv4.OpcodeBootReply:
		r.hearServer(event, m, d, outgoing)
	case outgoing:
		// A client or relay of this host: its server hears it, no board does.
	default:
		r.hearClient(ctx, out, l, event, m, d.dst.Addr())
	}
}

// hearServer notes what other servers say.
func (r *responder) hearServer(event Event, m *dhcpv4.DHCPv4, d datagram, outgoing bool) {
	o, ok := offerFrom(m, d.src.Addr())
	if !ok {
		return
	}
	r.mu.Lock()
	ours := r.own[o.Source] > 0 && o.isReply()
	if o.Address.IsValid() {
		r.leases.note(o.Client, o.Address)
	}
	r.mu.Unlock()
	if ours {
		return
	}
	o.SameHost = outgoing
	event.What, event.Offer = OtherOffer, o
	r.tell(event)
}

// hearClient answers a Pi, if the decider wants it.
func (r *responder) hearClient(ctx context.Context, out outlet, l link, event Event, m *dhcpv4.DHCPv4, dst netip.Addr) {
	req, err := fromMessage(m)
	if err != nil {
		event.Reason, _ = err.(Reason)
		r.tell(event)
		return
	}
	event.Request = req
	if req.Type != dhcpv4.MessageTypeDiscover || req.GIAddr.IsValid() && !unicast(req.GIAddr) {
		event.What = Noted
		r.tell(event)
		return
	}
	if !r.limit.board(req.MAC, event.Time) {
		event.What = Limited
		r.tell(event)
		return
	}
	server, ok := l.server(r.pin, dst, r.leased(req.MAC))
	if !ok {
		return // the pinned address has left the interface
	}
	decision := r.decider.Decide(ctx, Sighting{Request: req, Time: event.Time, Interface: l.name, Server: server})
	event.Why = decision.Why
	switch {
	case !decision.Answer:
		event.What = Refused
		r.tell(event)
	case !r.limit.answer(event.Time):
		event.What = Limited
		r.tell(event)
	default:
		r.answer(ctx, out, answer{event: event, dst: dst, client: decision.Client})
	}
}

// answer is an OFFER to be sent, now or again.
type answer struct {
	event Event
	// dst is where the request was sent to, client the address that the board
	// will have, if known.
	dst, client netip.Addr
}

// answer sends the OFFER, or for the ROM of a Pi 3 the OFFERs. A DISCOVER ends
// what an earlier one of the same board left to do.
func (r *responder) answer(ctx context.Context, out outlet, a answer) {
	mac := a.event.Request.MAC
	delays := []time.Duration{0}
	if a.event.Request.Kind == Pi3ROM {
		delays = r.delays
	}
	a.event.What = Answered
	again := a
	again.event.What = Repeated

	r.mu.Lock()
	r.drop(mac)
	var todo []time.Duration
	for _, d := range delays {
		if d > 0 {
			todo = append(todo, d)
		}
	}
	now := len(todo) < len(delays)
	if len(r.pending) >= r.limit.limits.Pending {
		now, todo = true, nil
	}
	if len(todo) > 0 && !r.closed {
		p := &offers{left: len(todo)}
		r.pending[mac] = p
		for i, d := range todo {
			next := again
			if i == 0 && !now {
				next = a
			}
			p.stop = append(p.stop, r.clock.AfterFunc(d, func() { r.later(ctx, out, p, next) }))
		}
	}
	r.mu.Unlock()
	if now {
		r.send(ctx, out, a)
	}
}

// later sends a delayed OFFER, unless a newer DISCOVER has taken its place.
func (r *responder) later(ctx context.Context, out outlet, p *offers, a answer) {
	mac := a.event.Request.MAC
	r.mu.Lock()
	current := r.pending[mac] == p && !r.closed
	if p.left--; current && p.left == 0 {
		delete(r.pending, mac)
	}
	r.mu.Unlock()
	if !current {
		return
	}
	a.event.Time = r.clock.Now()
	r.send(ctx, out, a)
}

// drop forgets the delayed OFFERs to a board. r.mu is held.
func (r *responder) drop(mac device.MAC) {
	if p := r.pending[mac]; p != nil {
		for _, stop := range p.stop {
			stop()
		}
		delete(r.pending, mac)
	}
}

// close ends all that is still to be sent.
func (r *responder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for mac := range r.pending {
		r.drop(mac)
	}
}

// send sends one OFFER now. Our address is chosen now too: in the 600 ms since
// the DISCOVER the address server has told where the board will be.
func (r *responder) send(ctx context.Context, out outlet, a answer) {
	l, ok := out.link()
	if !ok {
		return
	}
	client := a.client
	if !client.IsValid() {
		client = r.leased(a.event.Request.MAC)
	}
	server, ok := l.server(r.pin, a.dst, client)
	if !ok {
		return
	}
	a.event.Server = server
	payload := Reply(a.event.Request, server)
	var err error
	if relay := a.event.Request.GIAddr; relay.IsValid() {
		// RFC 2131 section 4.1: to the relay, at the server's port.
		from, to := netip.AddrPortFrom(server, serverPort), netip.AddrPortFrom(relay, serverPort)
		err = out.route(ctx, ipDatagram(from, to, payload), relay)
	} else {
		err = out.broadcast(ctx, broadcastFrame(l.mac, server, payload))
	}
	if err != nil {
		a.event.What, a.event.Err = Failed, err
	}
	r.tell(a.event)
}

// leased is the address another server last offered to a board.
func (r *responder) leased(mac device.MAC) netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leases.address(mac)
}

// owns keeps account of our own addresses: by is 1 for one more outlet that has
// them, -1 for one less.
func (r *responder) owns(addrs []netip.Prefix, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range addrs {
		if r.own[a.Addr()] += by; r.own[a.Addr()] <= 0 {
			delete(r.own, a.Addr())
		}
	}
}

// tell logs and observes an event. No lock is held.
func (r *responder) tell(e Event) {
	switch e.What {
	case Listening:
		r.log.Info("listening for boot requests", "interface", e.Interface, "address", e.Server)
	case Gone:
		attrs := []any{"interface", e.Interface}
		if e.Err != nil { // else rubus stops
			attrs = append(attrs, "error", e.Err)
		}
		r.log.Info("no longer listening for boot requests", attrs...)
	case Failed:
		r.log.Warn("cannot send an OFFER", "interface", e.Interface, "mac", e.Request.MAC, "error", e.Err)
	case OtherOffer:
		r.log.Debug("another server's offer", "interface", e.Interface, "mac", e.Offer.Client,
			"server", e.Offer.ServerID, "address", e.Offer.Address, "option66", e.Offer.BootServer)
	case Ignored:
		r.log.Debug("not a Pi's request", "interface", e.Interface, "reason", e.Reason)
	default:
		r.log.Debug("boot request "+string(e.What), "interface", e.Interface, "mac", e.Request.MAC,
			"serial", e.Request.Serial, "kind", e.Request.Kind, "why", e.Why)
	}
	if r.observe != nil {
		r.observe(e)
	}
}

// unicast says that an address can be a relay's.
func unicast(a netip.Addr) bool {
	return a.Is4() && !a.IsMulticast() && !a.IsLoopback() && !a.IsUnspecified() && a.As4()[0] < 240
}
