package servecmd

import (
	"context"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"rubus/boot"
	"rubus/boot/dhcpserver"
	"rubus/boot/neigh"
	"rubus/boot/pidhcp"
	"rubus/boot/proxydhcp"
	"rubus/boot/sighting"
	"rubus/config"
	"rubus/config/device"
)

// runner is a part of the daemon.
type runner interface {
	Run(ctx context.Context) error
}

// dhcp are the parts that answer DHCP, as rubus.yaml wants it.
func (s *server) dhcp() []runner {
	switch s.cfg.DHCP.Mode {
	case config.DHCPProxy:
		return s.proxies()
	case config.DHCPServer:
		return []runner{s.addressServer()}
	}
	return nil
}

// proxies are the answerers beside the site's DHCP server: one for each address
// or interface to listen on, or one for all interfaces.
func (s *server) proxies() []runner {
	manners := mannersOf(s.cfg.DHCP)
	one := func(p proxydhcp.Server) runner {
		p.Decider, p.Logger, p.Observe, p.Manners = dhcpDecider{s.fleet, s.flights}, s.log, s.flights.dhcp, &manners
		return &p
	}
	if len(s.cfg.Listen) == 0 {
		return []runner{one(proxydhcp.Server{})}
	}
	var out []runner
	for _, l := range s.cfg.Listen {
		if l.Address.IsValid() && !l.Address.IsLoopback() { // no Ethernet there
			out = append(out, one(proxydhcp.Server{Address: l.Address}))
		}
	}
	if names := interfaces(s.cfg.Listen); len(names) > 0 {
		out = append(out, one(proxydhcp.Server{Interfaces: names}))
	}
	return out
}

// addressServer is the DHCP server of a network that has no other. The range
// says which network that is; a list of interfaces may narrow it down.
func (s *server) addressServer() runner {
	d := s.cfg.DHCP
	manners := mannersOf(d)
	a := &dhcpserver.Server{
		Pool: dhcpserver.Pool{First: d.First, Last: d.Last, Lease: d.Lease, Router: d.Router, DNS: d.DNS, Domain: d.Domain},
		Dir:  filepath.Join(s.state, leasesDir), Decider: dhcpDecider{s.fleet, s.flights}, Directory: boards{s.fleet},
		// A client waits for its offer meanwhile; firmware asks again after 5 s.
		Prober: prober{neigh.New(neigh.Options{Probes: 2, Interval: 150 * time.Millisecond})},
		Force:  d.Force, Manners: &manners, Logger: s.log, Observe: s.flights.dhcp, Problem: s.noDHCP.set,
	}
	if names := interfaces(s.cfg.Listen); len(names) == len(s.cfg.Listen) {
		a.Interfaces = names
	}
	return a
}

// leasesDir is where leases are kept, below the state directory.
const leasesDir = "leases"

// mannersOf says to the DHCP answerers how rubus.yaml wants firmware answered.
func mannersOf(d config.DHCP) pidhcp.Manners {
	one := func(m config.Manner) pidhcp.Manner {
		return pidhcp.Manner{Offers: m.Offers, Text: m.Text, Delivery: pidhcp.Delivery(m.Delivery), Option66: m.Option66}
	}
	return pidhcp.Manners{
		ROM: one(d.ROM), Bootcode: one(d.Bootcode), EEPROM: one(d.EEPROM),
		ServerID: d.ServerID, PlainACK: !d.ACKOptions, OUIs: d.OUIs,
	}
}

// dhcpDecider lets the fleet decide who is answered.
type dhcpDecider struct {
	fleet   *boot.Fleet
	flights *flights
}

// Decide implements pidhcp.Decider.
func (d dhcpDecider) Decide(_ context.Context, s pidhcp.Sighting) pidhcp.Decision {
	v := d.fleet.Sight(sighting.Sighting{
		Serial: s.Serial, MAC: s.MAC, Revision: s.Revision, Stage: s.Kind.String(), Bootloader: s.Bootloader(), Hint: s.Hint,
	})
	d.flights.decided(s, v)
	return pidhcp.Decision{Answer: v.Answer, Why: v.Why}
}

// boards tells the DHCP server what the fleet knows of boards.
type boards struct{ fleet *boot.Fleet }

// Board implements dhcpserver.Directory.
func (b boards) Board(mac device.MAC) (listed bool, reserved netip.Addr) {
	return b.fleet.Reserved(mac)
}

// Holder implements dhcpserver.Directory.
func (b boards) Holder(a netip.Addr) (mac device.MAC, held bool) { return b.fleet.Holder(a) }

// prober asks on the link who has an address.
type prober struct{ table *neigh.Table }

// InUse implements dhcpserver.Prober.
func (p prober) InUse(ctx context.Context, a netip.Addr, client device.MAC) (other device.MAC, used bool) {
	return p.table.Other(ctx, a, client)
}

// reasons are why no addresses are given out, by interface.
type reasons struct {
	mu  sync.Mutex
	why map[string]string
}

func (r *reasons) set(iface, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = map[string]string{}
	}
	if iface != "" && why != "" {
		why = iface + ": " + why
	}
	if r.why[iface] = why; why == "" {
		delete(r.why, iface)
	}
}

// list gives the reasons, by interface.
func (r *reasons) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, iface := range slices.Sorted(maps.Keys(r.why)) {
		out = append(out, r.why[iface])
	}
	return out
}
