package proxydhcp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
)

// Server answers the boot requests of Pis on the links of this host. It uses
// packet sockets: it needs no port and changes nothing for a DHCP server on
// the same host or link. Set the fields before Run; only Decider is required.
type Server struct {
	// Interfaces are names, or patterns of names as path.Match has them; none:
	// every Ethernet interface that is up and has an IPv4 address.
	Interfaces []string
	// Address, when valid, is the only address to answer from; only the
	// interface that has it is served.
	Address netip.Addr
	Decider pidhcp.Decider
	// Manners say how each kind of firmware is answered; nil: DefaultManners.
	Manners *pidhcp.Manners
	// Logger is told of every event, of packets at debug level; nil: nobody.
	Logger *slog.Logger
	// Observe, when not nil, is told every event. It must not block.
	Observe func(pidhcp.Event)
	// Clock is the time; nil: the real one.
	Clock dhcplink.Clock
	// Limits bound the answers to a flood.
	Limits dhcplink.Limits
	// Ready, when not nil, is called once, when all interfaces that could be
	// served at the start are.
	Ready func()
}

// Run serves until ctx ends, which is no error. Interfaces and addresses that
// come and go are followed. It fails when it lacks the right to open packet
// sockets; that there is no interface yet is only logged.
func (s *Server) Run(ctx context.Context) error {
	if s.Decider == nil {
		return errors.New("a proxydhcp server needs a Decider")
	}
	r := s.responder()
	defer r.repeats.Close()
	l := dhcplink.Listener{Interfaces: s.Interfaces, Address: s.Address, Handler: r, Logger: r.log, Ready: s.Ready}
	return l.Run(ctx)
}

func (s *Server) responder() *responder {
	limits := s.Limits.WithDefaults()
	r := &responder{
		decider: s.Decider, clock: s.Clock, log: s.Logger, observe: s.Observe, pin: s.Address,
		manners: pidhcp.DefaultManners(), limit: dhcplink.NewLimiter(limits), own: map[netip.Addr]int{},
	}
	if s.Manners != nil {
		r.manners = *s.Manners
	}
	if r.clock == nil {
		r.clock = dhcplink.SystemClock{}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.repeats = dhcplink.NewRepeats(r.clock, limits.Pending)
	return r
}
