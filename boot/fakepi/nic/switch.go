package nic

import (
	"net/netip"
	"slices"
	"sync"

	"rubus/config/device"
)

// Switch has many boards on one link. It reads each frame once, and gives it to the card
// that it is for: with a socket for each card the kernel would wake all of them for every
// broadcast, and who sends one would pay for that.
type Switch struct {
	link Link

	mu    sync.Mutex
	ports map[device.MAC]*port
	// at has the ports by the addresses that their boards said in ARP.
	at map[netip.Addr]*port
	// down says that nothing is read from the link any more.
	down bool
}

// NewSwitch makes a Switch, which reads link until that is closed or fails.
func NewSwitch(link Link) *Switch {
	s := &Switch{link: link, ports: map[device.MAC]*port{}, at: map[netip.Addr]*port{}}
	go s.run()
	return s
}

// Plug gives a board a card. The MAC has no other card. When the link is closed or has
// failed, so is the card.
func (s *Switch) Plug(mac device.MAC) Link {
	p := &port{queue: newQueue(), s: s, mac: mac}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[mac] = p
	if s.down {
		p.close()
	}
	return p
}

func (s *Switch) run() {
	b := make([]byte, MaxFrame)
	for {
		n, err := s.link.ReadFrame(b)
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.down = true
			for _, p := range s.ports {
				p.close()
			}
			return
		}
		s.pass(b[:n])
	}
}

// pass gives a frame to the card that it is for. Of those for everybody, ARP is only for
// who has the address, and an answer of DHCP for who asked; others are for all.
func (s *Switch) pass(frame []byte) {
	dst, _, etherType, payload, err := splitEth(frame)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	only := func(p *port) {
		if p != nil {
			p.put(slices.Clone(frame))
		}
	}
	if dst[0]&1 == 0 {
		only(s.ports[dst])
		return
	}
	switch etherType {
	case etherARP:
		if a, err := parseARP(payload); err == nil {
			only(s.at[a.target])
		}
		return
	case etherIPv4:
		const client, chaddr = 68, 28 // RFC 2131, section 2
		if d, err := parseUDP(payload, false); err == nil && d.Dst.Port() == client && len(d.Payload) >= chaddr+6 {
			only(s.ports[device.MAC(d.Payload[chaddr:chaddr+6])])
			return
		}
	}
	for _, p := range s.ports {
		only(p)
	}
}

// port is a card of a Switch.
type port struct {
	queue
	s   *Switch
	mac device.MAC
}

// WriteFrame implements Link.
func (p *port) WriteFrame(b []byte) error {
	if _, _, etherType, payload, err := splitEth(b); err == nil && etherType == etherARP {
		if a, err := parseARP(payload); err == nil && a.sender != netip.IPv4Unspecified() {
			p.s.mu.Lock()
			p.s.at[a.sender] = p
			p.s.mu.Unlock()
		}
	}
	return p.s.link.WriteFrame(b)
}

// Checksums implements Link.
func (p *port) Checksums() bool { return p.s.link.Checksums() }

// Close implements Link.
func (p *port) Close() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.ports[p.mac] == p {
		delete(p.s.ports, p.mac)
	}
	for a, q := range p.s.at {
		if q == p {
			delete(p.s.at, a)
		}
	}
	p.close()
	return nil
}

var _ Link = (*port)(nil)
