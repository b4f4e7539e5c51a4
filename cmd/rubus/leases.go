package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot/dhcpserver"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// newLeasesCmd is "rubus leases".
func newLeasesCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "leases",
		Short: "Show who was given which address (dhcp: {mode: server})",
		Long: `Show the addresses that rubus gave out, to boards and to everybody else, and how
long they are good for. "expired" and "released" ones are kept for their clients
for 30 days, as long as nobody else needs them; one in "conflict" is used by
somebody who was not given it, and left alone until then.

Without "dhcp: {mode: server}" in rubus.yaml another server gives out addresses,
and knows.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := g.daemon().Leases(c.Context())
			switch {
			case err != nil:
				return err
			case g.JSON:
				return g.printJSON(all)
			case len(all) == 0:
				fmt.Fprintln(g.Stdout, "rubus gave out no address")
				return nil
			}
			printLeases(g, all, time.Now())
			return nil
		},
	}
}

func printLeases(g *globals, all []control.Lease, now time.Time) {
	rows := make([][]string, 0, len(all))
	for _, l := range all {
		mac, serial, ends := "", "", "over"
		if !l.MAC.IsZero() {
			mac = l.MAC.String()
		}
		if !l.Serial.IsZero() {
			serial = l.Serial.String()
		}
		if l.Until.After(now) {
			ends = "in " + ui.Ago(l.Until, now)
		}
		name := l.Name
		if name == "" {
			name = l.Host
		}
		rows = append(rows, []string{l.Address.String(), l.State, ends, dash(mac), dash(serial), dash(name)})
	}
	ui.Table(g.Stdout, []string{"ADDRESS", "STATE", "ENDS", "MAC", "BOARD", "NAME"}, rows, 5)
}

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
