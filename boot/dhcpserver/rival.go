package dhcpserver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
)

// served is a link on which addresses are to be given out.
type served struct {
	out  dhcplink.Outlet
	link dhcplink.Link
	sub  subnet
	// port keeps port 67, so that no other server on this host takes it and the
	// kernel answers no client's message with "unreachable".
	port io.Closer
	// asking: other servers are being asked for; why is what was found. Addresses
	// are given out when neither is set.
	asking bool
	why    string
	// told are the rivals that the log has, by address.
	told map[netip.Addr]time.Time
	stop []func() bool
}

// silent is why nothing is answered on a link; "" when it is.
func (h *handler) silent(iface string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.links[iface]
	switch {
	case l == nil:
		return "the interface is not served yet"
	case l.asking:
		return "other DHCP servers are being asked for"
	}
	return l.why
}

// ready tells when no link is in the pool's network.
func (h *handler) ready() {
	h.mu.Lock()
	none := len(h.links) == 0
	h.mu.Unlock()
	if none {
		why := fmt.Sprintf("no interface has an address in the network of %s", h.pool.First)
		h.log.Error("no addresses are given out", "why", why)
		if h.problem != nil {
			h.problem("", why)
		}
	}
}

// enter begins to serve a link: when nobody else does.
func (h *handler) enter(out dhcplink.Outlet, l dhcplink.Link, sub subnet) {
	h.leave(l.Name)
	s := &served{out: out, link: l, sub: sub, told: map[netip.Addr]time.Time{}}
	h.mu.Lock()
	h.links[l.Name] = s
	h.mu.Unlock()
	if h.problem != nil {
		h.problem("", "")
	}
	h.inquire(s)
}

// inquire asks for other servers, and decides when enough was heard.
func (h *handler) inquire(s *served) {
	why := h.takePort(s)
	if h.force {
		h.settle(s, "")
		return
	}
	h.mu.Lock()
	s.asking, s.why = true, ""
	h.mu.Unlock()
	if why != "" {
		h.settle(s, why)
		return
	}
	// Three times: a switch's port may be deaf for a moment.
	for i := range 3 {
		h.later(s, h.listen*time.Duration(i)/4, func() { h.sendInquiry(s) })
	}
	h.later(s, h.listen, func() {
		h.mu.Lock()
		why := s.why
		h.mu.Unlock()
		h.settle(s, why)
	})
}

// takePort opens port 67 for a link, unless it is open; why says why it cannot.
func (h *handler) takePort(s *served) (why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.port != nil || h.links[s.link.Name] != s {
		return ""
	}
	port, err := h.hold(s.link.Name, s.sub.own)
	if err != nil {
		return fmt.Sprintf("port 67 of %s cannot be had: %v", s.sub.own, err)
	}
	s.port = port
	return ""
}

// settle says whether a link is served from now on. If not, it is tried again.
func (h *handler) settle(s *served, why string) {
	h.mu.Lock()
	if h.links[s.link.Name] != s {
		h.mu.Unlock()
		return
	}
	s.asking, s.why, s.stop = false, why, nil
	h.mu.Unlock()
	if why == "" {
		h.log.Info("giving out addresses", "interface", s.link.Name, "address", s.sub.own, "first", h.pool.First, "last", h.pool.Last)
	} else {
		h.log.Error("no addresses are given out", "interface", s.link.Name, "why", why, "again", h.again)
		h.later(s, h.again, func() { h.inquire(s) })
	}
	if h.problem != nil {
		h.problem(s.link.Name, why)
	}
}

// later does something unless the link is left before.
func (h *handler) later(s *served, d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	stop := h.clock.AfterFunc(d, func() {
		h.mu.Lock()
		current := h.links[s.link.Name] == s
		h.mu.Unlock()
		if current {
			f()
		}
	})
	h.mu.Lock()
	s.stop = append(s.stop, stop)
	h.mu.Unlock()
}

// leave ends serving a link.
func (h *handler) leave(name string) {
	h.mu.Lock()
	s := h.links[name]
	delete(h.links, name)
	var stop []func() bool
	var port io.Closer
	if s != nil {
		stop, port = s.stop, s.port
	}
	h.mu.Unlock()
	for _, f := range stop {
		f()
	}
	if port != nil {
		_ = port.Close()
	}
	if s != nil && h.problem != nil {
		h.problem(name, "")
	}
}

// sendInquiry sends a DISCOVER of our own. No lease comes of it: nobody asks for
// what is offered.
func (h *handler) sendInquiry(s *served) {
	src := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcplink.ClientPort)
	dst := netip.AddrPortFrom(dhcplink.ToClients().Addr(), dhcplink.ServerPort)
	if err := s.out.Send(h.ctx, dhcplink.Frame(s.link.MAC, dhcplink.Broadcast(), src, dst, inquiry(s.link))); err != nil && h.ctx.Err() == nil {
		h.log.Warn("other DHCP servers cannot be asked for", "interface", s.link.Name, "err", err)
	}
}

// inquiry is a DISCOVER that is answered by broadcast.
func inquiry(l dhcplink.Link) []byte {
	b := make([]byte, 236, 300)
	b[0], b[1], b[2] = 1, 1, 6
	_, _ = rand.Read(b[4:8]) // never fails
	binary.BigEndian.PutUint16(b[10:], dhcplink.FlagBroadcast)
	copy(b[28:], l.MAC[:])
	b = append(b, 0x63, 0x82, 0x53, 0x63, 53, 1, byte(dhcpv4.MessageTypeDiscover), 55, 2, 1, 3, 255)
	return append(b, make([]byte, cap(b)-len(b))...)
}

// hearServer notes what other servers say. While they are asked for, one that
// gives out addresses is a reason not to serve; later it is in the log.
func (h *handler) hearServer(l dhcplink.Link, event pidhcp.Event, m *dhcpv4.DHCPv4, d dhcplink.Datagram, outgoing bool) {
	o, ok := pidhcp.OfferFrom(m, d.Src.Addr())
	if !ok {
		return
	}
	o.SameHost = outgoing
	h.mu.Lock()
	ours := h.own[o.Source] > 0
	s := h.links[l.Name]
	var tell bool
	if s != nil && !ours && o.Address.IsValid() {
		why := fmt.Sprintf("another DHCP server answers there: %s (%s)", o.Source, d.Source)
		if s.asking {
			s.why = why
		}
		if event.Time.Sub(s.told[o.Source]) > time.Hour && len(s.told) < 64 {
			s.told[o.Source], tell = event.Time, !s.asking
		}
	}
	h.mu.Unlock()
	if ours {
		return
	}
	if tell {
		h.log.Warn("another DHCP server gives out addresses", "interface", l.Name, "server", o.Source, "mac", d.Source, "to", o.Client)
	}
	event.What, event.Reason, event.Offer = pidhcp.OtherOffer, "", o
	h.tell(event)
}

var errPortHeld = errors.New("another DHCP server of this host has it")
