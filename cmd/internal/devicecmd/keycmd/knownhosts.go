package keycmd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// knownHost is a board as "rubus device known-hosts --json" prints it.
type knownHost struct {
	Serial device.Serial `json:"serial"`
	// Names are those that ssh may know it by.
	Names    []string `json:"names"`
	HostKeys []string `json:"host_keys"`
}

// NewKnownHosts is "rubus device known-hosts".
func NewKnownHosts(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "known-hosts [SERIAL]...",
		Short: "Print the boards' ssh host keys as lines of known_hosts",
		Long: `Print the ssh host keys that boards were given as lines of known_hosts, with
their names and, where devices.yaml or the board's last boot tells it, their
address. A board that has not booted yet has none. The keys stay when a board is
reset, gets another image or other hardware, so the lines do too.`,
		Example: `  sudo rubus device known-hosts | sudo tee /etc/ssh/ssh_known_hosts
  rubus device known-hosts bench-01 >>~/.ssh/known_hosts`,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			state, err := g.StateDir()
			if err != nil {
				return err
			}
			conf, err := g.LoadConfig()
			if err != nil {
				return err
			}
			var boards []device.Serial
			for _, a := range args {
				s, err := g.SerialOf(c.Context(), a)
				if err != nil {
					return err
				}
				boards = append(boards, s)
			}
			if len(args) == 0 {
				if boards, err = record.Serials(state); err != nil {
					return ui.Hint(err, "boards' files belong to root: try sudo")
				}
			}
			all := []knownHost{}
			for _, s := range boards {
				given, err := boot.IdentityStore(state, s).Given()
				if err != nil {
					return ui.Hint(err, "boards' files belong to root: try sudo")
				}
				if len(given.HostKeys) == 0 {
					if len(args) > 0 {
						return ui.Hint(fmt.Errorf("board %s has no host key from this server", s), "it gets them at its next boot, unless \"ssh_host_keys: off\"")
					}
					continue
				}
				var label string
				var address netip.Addr
				if d := conf.BySerial(s); d != nil {
					label, address = d.Label(), d.Address
				}
				if !address.IsValid() {
					address = writes.RecordedAddress(state, s)
				}
				all = append(all, knownHost{Serial: s, Names: namesOf(given.Hostname, label, address), HostKeys: given.HostKeys})
			}
			if g.JSON {
				return g.PrintJSON(all)
			}
			if len(all) == 0 {
				return errors.New("no board has been given a host key yet: boards get them when they boot")
			}
			for _, k := range all {
				for _, key := range k.HostKeys {
					fmt.Fprintf(g.Stdout, "%s %s\n", strings.Join(k.Names, ","), key)
				}
			}
			return nil
		},
	}
}

// namesOf are the names that ssh may know a board by, each once: its host name, in full and
// short, what devices.yaml calls it, if it does, and its address, if that is known.
func namesOf(hostname, label string, address netip.Addr) []string {
	short, _, _ := strings.Cut(hostname, ".")
	names := []string{hostname, short}
	if label != "" {
		names = append(names, label)
	}
	if address.IsValid() {
		names = append(names, address.String())
	}
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
