package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
)

// newLeasesCmd is "rubus leases".
func newLeasesCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "leases",
		Short: "Show who was given which address (dhcp: {mode: server})",
		Long: `Show the addresses that rubus gave out, to boards and to everybody else, and how
long they are good for. "expired" and "released" ones are kept for their clients
for 30 days, as long as nobody else needs them; one in "conflict" is used by
somebody who was not given it, and left alone until then.

Without "dhcp: {mode: server}" in rubus.yaml another server gives out addresses,
and knows.`,
		Args:              cli.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := g.Daemon().Leases(c.Context())
			switch {
			case err != nil:
				return err
			case g.JSON:
				return g.PrintJSON(all)
			case len(all) == 0:
				fmt.Fprintln(g.Stdout, "rubus gave out no address")
				return nil
			}
			printLeases(g, all, time.Now())
			return nil
		},
	}
}

func printLeases(g *cli.Globals, all []control.Lease, now time.Time) {
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
		rows = append(rows, []string{l.Address.String(), l.State, ends, ui.Dash(mac), ui.Dash(serial), ui.Dash(name)})
	}
	ui.Table(g.Stdout, []string{"ADDRESS", "STATE", "ENDS", "MAC", "BOARD", "NAME"}, rows, 5)
}
