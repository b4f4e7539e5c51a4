package servecmd

import (
	"context"
	"path/filepath"
	"time"

	"rubus/boot/dhcpserver"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

// Leases implements control.Daemon.
func (d *controlled) Leases(context.Context) ([]control.Lease, error) {
	all, err := dhcpserver.Leases(filepath.Join(d.state, leasesDir))
	if err != nil {
		return nil, err
	}
	boards := map[device.MAC]control.Board{}
	for _, s := range d.fleet.Boards() {
		if !s.MAC.IsZero() {
			boards[s.MAC] = boardOf(s)
		}
	}
	return leasesOf(all, boards, time.Now()), nil
}

// leasesOf says whose leases are.
func leasesOf(all []dhcpserver.Lease, boards map[device.MAC]control.Board, now time.Time) []control.Lease {
	out := []control.Lease{}
	for _, l := range all {
		c := control.Lease{Address: l.Address, State: string(l.State), MAC: l.MAC, Until: l.Until, Host: l.Host}
		if l.Over(now) {
			switch l.State {
			case dhcpserver.Conflict:
				continue // free again
			case dhcpserver.Bound:
				c.State = "expired"
			}
		}
		if b, ok := boards[l.MAC]; ok {
			c.Serial, c.Name = b.Serial, b.Name
		}
		out = append(out, c)
	}
	return out
}
