package keycmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// rekeyed is what "rubus device rekey --json" prints.
type rekeyed struct {
	Serial device.Serial `json:"serial"`
	// Was are the keys that are given to the board no more, HostKeys those that it has
	// from its next boot on.
	Was      []HostKey `json:"was"`
	HostKeys []HostKey `json:"host_keys"`
}

// NewRekey is "rubus device rekey".
func NewRekey(g *cli.Globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rekey SERIAL",
		Short: "Give a board new ssh host keys",
		Long: `Give a board new ssh host keys in the place of those that this server made for
it, when somebody may have read them. The board has them from its next boot on;
until then, and in "rubus device known-hosts", it has the old ones. It needs no
daemon. Host keys from files of devices.yaml are not touched.`,
		Example:           `  sudo rubus device rekey bench-01`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			state, err := g.StateDir()
			if err != nil {
				return err
			}
			conf, err := g.LoadConfig()
			if err != nil {
				return err
			}
			if d := conf.BySerial(serial); d != nil && (d.NoHostKeys || len(d.HostKeys) > 0) {
				has := "off"
				if !d.NoHostKeys {
					has = strings.Join(d.HostKeys, ", ")
				}
				return ui.Usage(fmt.Errorf("board %s has no host keys from this server: devices.yaml says \"ssh_host_keys: %s\"", serial, has),
					"put new keys into such files, or make some on the board")
			}
			store := boot.IdentityStore(state, serial)
			old, err := store.HostKeys()
			if err != nil {
				return ui.Hint(err, "boards' files belong to root: try sudo")
			}
			if len(old) == 0 {
				return ui.Hint(fmt.Errorf("board %s has no host keys from this server yet", serial), "it gets them at its next boot")
			}
			out := rekeyed{Serial: serial}
			if out.Was, err = HostKeys(serial, old); err != nil {
				return err
			}
			for _, k := range out.Was {
				g.Notef("%s has %s", serial, k)
			}
			if err := g.Confirm("make new keys? whoever knows the old ones is warned by ssh", yes); err != nil {
				return err
			}
			is, err := store.Rekey()
			if err != nil {
				return err
			}
			if out.HostKeys, err = HostKeys(serial, is); err != nil {
				return err
			}
			if g.JSON {
				return g.PrintJSON(out)
			}
			for _, k := range out.HostKeys {
				fmt.Fprintf(g.Stdout, "%s\n", k)
			}
			g.Notef("%s has them from its next boot on", serial)
			return nil
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
