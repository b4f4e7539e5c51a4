package dhcpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// maxProbes bounds the addresses that are asked for at once: as many as there are
// boards in a rack that all get power at the same moment. Further clients ask again by
// themselves, but firmware only after seconds, and then all at the same moment again.
const maxProbes = 512

// handler is the server without its sockets: frames in, frames out. It
// implements dhcplink.Handler.
type handler struct {
	ctx     context.Context // of Run: probes and waits for rivals end with it
	spawn   func(func() error)
	pool    Pool
	decider pidhcp.Decider
	dir     Directory
	prober  Prober
	force   bool
	clock   dhcplink.Clock
	log     *slog.Logger
	observe func(pidhcp.Event)
	problem func(iface, why string)
	manners pidhcp.Manners
	limit   *dhcplink.Limiter
	repeats *dhcplink.Repeats
	save    func(Lease) error
	hold    func(iface string, addr netip.Addr) (io.Closer, error)
	listen  time.Duration
	again   time.Duration
	probing chan struct{} // holds a token for each address that is asked for
	saves   *saves

	mu    sync.Mutex
	book  *book
	links map[string]*served // by name
	own   map[netip.Addr]int // our addresses, by how many links have them
	full  time.Time          // when it was last told that there is no address
	// elsewhere are reservations that were told to be of no use, by their boards' MACs.
	elsewhere map[device.MAC]netip.Addr
}

// subnetOf is the network of the pool on a link; ok is false when the link has
// no address in it.
func (h *handler) subnetOf(l dhcplink.Link) (s subnet, ok bool) {
	for _, p := range l.Addrs {
		if s.own.IsValid() || !p.Contains(h.pool.First) || !p.Contains(h.pool.Last) {
			s.ours = append(s.ours, p.Addr())
			continue
		}
		s.own, s.prefix = p.Addr(), p.Masked()
	}
	return s, s.own.IsValid()
}

// Hear implements dhcplink.Handler.
func (h *handler) Hear(ctx context.Context, out dhcplink.Outlet, frame []byte, outgoing bool) {
	l, ok := out.Link()
	if !ok {
		return
	}
	sub, ok := h.subnetOf(l)
	if !ok {
		return
	}
	event := pidhcp.Event{What: pidhcp.Ignored, Time: h.clock.Now(), Interface: l.Name, Reason: pidhcp.Malformed}
	d, err := dhcplink.ParseFrame(frame)
	if err != nil {
		h.tell(event)
		return
	}
	m, err := dhcpv4.FromBytes(d.Payload)
	switch {
	case err != nil:
		h.tell(event)
	case m.OpCode == dhcpv4.OpcodeBootReply:
		h.hearServer(l, event, m, d, outgoing)
	case !outgoing && d.Dst.Port() == dhcplink.ServerPort:
		event.Reason = ""
		h.hearClient(ctx, out, sub, event, m, d)
	}
}

// hearClient decides on a client's message.
func (h *handler) hearClient(ctx context.Context, out dhcplink.Outlet, sub subnet, event pidhcp.Event, m *dhcpv4.DHCPv4, d dhcplink.Datagram) {
	a, ok := readAsk(m)
	if !ok || a.GIAddr.IsValid() && (!dhcplink.IsUnicast(a.GIAddr) || !sub.prefix.Contains(a.GIAddr)) {
		event.Reason = pidhcp.NotEthernet
		if ok {
			event.Reason = pidhcp.OtherSubnet
		}
		h.tell(event)
		return
	}
	if req, err := pidhcp.FromMessage(m, h.manners.OUIs); err == nil {
		a.firmware = req
	}
	event.Request = a.firmware
	event.Request.Header = a.Header
	if why := h.silent(event.Interface); why != "" {
		event.What, event.Why = pidhcp.Unserved, why
		h.tell(event)
		return
	}
	if !h.limit.Board(a.MAC, event.Time) || !h.limit.Answer(event.Time) {
		event.What = pidhcp.Limited
		h.tell(event)
		return
	}
	if a.Type == dhcpv4.MessageTypeDiscover && a.isFirmware() {
		dec := h.decider.Decide(ctx, pidhcp.Sighting{Request: a.firmware, Time: event.Time, Interface: event.Interface, Server: sub.own})
		event.Why = dec.Why
		if !dec.Answer {
			event.What = pidhcp.Refused
			h.tell(event)
			return
		}
	}
	if a.Type != dhcpv4.MessageTypeDiscover {
		h.repeats.Drop(a.MAC)
	}
	a.listed, a.reserved = h.dir.Board(a.MAC)
	h.checkReserved(a, sub)
	x := &exchange{handler: h, out: out, sub: sub, event: event, ask: a, msg: m, source: d.Source}
	h.mu.Lock()
	v := h.book.decide(a, sub, event.Time)
	h.mu.Unlock()
	x.do(ctx, v)
}

// checkReserved says once of an address of devices.yaml that it cannot be given out here:
// its board gets one of the range.
func (h *handler) checkReserved(a *ask, sub subnet) {
	if !a.reserved.IsValid() || sub.usable(a.reserved) {
		return
	}
	h.mu.Lock()
	said := h.elsewhere[a.MAC] == a.reserved
	if h.elsewhere == nil {
		h.elsewhere = map[device.MAC]netip.Addr{}
	}
	h.elsewhere[a.MAC] = a.reserved // of boards that devices.yaml names, so not of anybody
	h.mu.Unlock()
	if !said {
		h.log.Warn("the address that devices.yaml gives a board cannot be given out here: it gets another", "mac", a.MAC, "address", a.reserved, "network", sub.prefix)
	}
}

// exchange is one message of a client on its way to an answer.
type exchange struct {
	*handler
	out    dhcplink.Outlet
	sub    subnet
	event  pidhcp.Event
	ask    *ask
	msg    *dhcpv4.DHCPv4
	source device.MAC
}

// do does what a verdict says: disk first, then the link or the client.
func (x *exchange) do(ctx context.Context, v verdict) {
	if v.save == nil {
		x.act(ctx, v, Lease{})
		return
	}
	x.saves.do(v.save.Address, x.spawn, func() { x.keep(v) })
}

// keep brings a lease to the disk, and goes on with its verdict.
func (x *exchange) keep(v verdict) {
	saved := x.copyOf(v.save)
	err := x.save(saved)
	switch {
	case err == nil:
		x.kept(v.save, saved.State == Bound)
	case saved.kept && v.answer != 0:
		// A board stands on its address: a full disk takes it from nobody. The
		// file still says whose it is, though not for how long.
		x.log.Error("a lease is longer than its file says, which cannot be written", "mac", x.ask.MAC, "address", saved.Address, "err", err)
	default:
		// What is not on disk is not promised. The client asks again.
		x.log.Error("an address is not given out: its lease cannot be kept", "mac", x.ask.MAC, "err", err)
		x.event.What, x.event.Err = pidhcp.Failed, err
		x.tell(x.event)
		return
	}
	x.act(x.handler.ctx, v, saved)
}

// act does what a verdict says when the disk has what it is to have.
func (x *exchange) act(ctx context.Context, v verdict, saved Lease) {
	switch {
	case v.probe.IsValid():
		x.look(v.probe)
	case v.answer != 0:
		x.answer(ctx, v)
	case saved.State == Conflict:
		x.log.Warn("an address is in use by somebody who has no lease of it", "address", saved.Address, "client", x.ask.MAC)
		x.note(v)
	default:
		x.note(v)
	}
}

// copyOf is a lease as it is now: others may change it while it is written.
func (h *handler) copyOf(l *Lease) Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *l
}

// kept notes whether a lease's file has it as its client's.
func (h *handler) kept(l *Lease, is bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.kept = is
}

// note tells of a message that is not answered.
func (x *exchange) note(v verdict) {
	x.event.What = pidhcp.Noted
	if v.why != "" {
		x.event.Why = v.why
	}
	if v.why == noAddress {
		x.event.What = pidhcp.Unserved
		h := x.handler
		h.mu.Lock()
		tell := x.event.Time.Sub(h.full) > time.Minute
		if tell {
			h.full = x.event.Time
		}
		h.mu.Unlock()
		if tell {
			h.log.Warn("no address is free", "mac", x.ask.MAC, "addresses", h.pool.size())
		}
	}
	x.tell(x.event)
}

// look asks for an address on the link, in a goroutine of its own, and goes on
// with what was found.
func (x *exchange) look(addr netip.Addr) {
	h := x.handler
	select {
	case h.probing <- struct{}{}:
	default:
		h.mu.Lock()
		if l := h.book.byAddr[addr]; l != nil && l.MAC == x.ask.MAC {
			h.book.drop(l)
		}
		h.mu.Unlock()
		x.event.What = pidhcp.Limited
		h.tell(x.event)
		return
	}
	h.spawn(func() error {
		other, used := h.prober.InUse(h.ctx, addr, x.ask.MAC)
		<-h.probing
		if h.ctx.Err() != nil {
			return nil
		}
		if used {
			h.log.Warn("an address is in use by somebody who has no lease of it", "address", addr, "mac", other)
		}
		h.mu.Lock()
		v := h.book.probed(x.ask, addr, used, x.sub, h.clock.Now())
		h.mu.Unlock()
		x.do(h.ctx, v)
		return nil
	})
}

// answer sends the answer, an OFFER as often as the firmware needs it.
func (x *exchange) answer(ctx context.Context, v verdict) {
	manner := pidhcp.Manner{Offers: []time.Duration{0}, Delivery: pidhcp.Auto}
	if v.boot.Kind != 0 {
		manner = x.manners.Of(v.boot.Kind)
	}
	if v.answer != dhcpv4.MessageTypeOffer {
		manner.Offers = []time.Duration{0}
	}
	payload := pack(v, x.ask, x.msg, x.pool, x.sub, x.manners)
	to := destination(v, x.ask, x.source, manner.Delivery)
	first := map[dhcpv4.MessageType]pidhcp.What{
		dhcpv4.MessageTypeOffer: pidhcp.Answered, dhcpv4.MessageTypeAck: pidhcp.Acked, dhcpv4.MessageTypeNak: pidhcp.Denied,
	}[v.answer]
	x.repeats.Do(x.ask.MAC, manner.Offers, func(again bool) {
		e := x.event
		e.What, e.Time, e.Server, e.Address = first, x.clock.Now(), x.sub.own, v.address
		if again {
			e.What = pidhcp.Repeated
		}
		if v.why != "" {
			e.Why = v.why
		}
		if err := dhcplink.Deliver(ctx, x.out, x.ask.Header, x.sub.own, to, payload); err != nil {
			e.What, e.Err = pidhcp.Failed, err
		}
		x.tell(e)
	})
}

// Changed implements dhcplink.Handler.
func (h *handler) Changed(out dhcplink.Outlet, l dhcplink.Link, up bool, err error) {
	if !up {
		h.leave(l.Name)
		h.tell(pidhcp.Event{What: pidhcp.Gone, Time: h.clock.Now(), Interface: l.Name, Err: err})
		return
	}
	sub, ok := h.subnetOf(l)
	h.mu.Lock()
	s := h.links[l.Name]
	same := s != nil && s.out == out && s.sub.own == sub.own && s.sub.prefix == sub.prefix && s.link.MAC == l.MAC
	h.mu.Unlock()
	switch {
	case !ok:
		h.leave(l.Name) // its address there was taken away
		return
	case same:
		return // another address came or went: clients are served on
	}
	h.tell(pidhcp.Event{What: pidhcp.Listening, Time: h.clock.Now(), Interface: l.Name, Server: sub.own})
	h.enter(out, l, sub)
}

// Own implements dhcplink.Handler.
func (h *handler) Own(addrs []netip.Prefix, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range addrs {
		if h.own[a.Addr()] += by; h.own[a.Addr()] <= 0 {
			delete(h.own, a.Addr())
		}
	}
}

// close ends what is still to be sent, and lets go of the ports.
func (h *handler) close() {
	h.repeats.Close()
	h.mu.Lock()
	names := make([]string, 0, len(h.links))
	for name := range h.links {
		names = append(names, name)
	}
	h.mu.Unlock()
	for _, n := range names {
		h.leave(n)
	}
}

// tell logs and observes an event. No lock is held.
func (h *handler) tell(e pidhcp.Event) {
	attrs := []any{"interface", e.Interface, "mac", e.Request.MAC, "address", e.Address, "why", e.Why}
	switch e.What {
	case pidhcp.Failed:
		if !errors.Is(e.Err, context.Canceled) {
			h.log.Warn("a DHCP answer cannot be sent", append(attrs, "err", e.Err)...)
		}
	case pidhcp.Denied:
		h.log.Info("a DHCP client is refused its address", attrs...)
	case pidhcp.OtherOffer:
		h.log.Debug("another server's offer", "interface", e.Interface, "mac", e.Offer.Client, "server", e.Offer.ServerID, "address", e.Offer.Address)
	default:
		h.log.Debug("DHCP "+string(e.What), attrs...)
	}
	if h.observe != nil {
		h.observe(e)
	}
}
