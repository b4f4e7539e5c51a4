package devicecmd

import (
	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
)

// New is "rubus device" with its verbs.
func New(g *cli.Globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "device",
		Short: "See and change single boards",
		Long: `See and change single boards. SERIAL is 8 or 16 hex digits, as the board's
/proc/device-tree/serial-number says, or the board's name in devices.yaml.`,
	}
	c.AddCommand(
		newListCmd(g), newShowCmd(g), newKnownHostsCmd(g), newRekeyCmd(g), newDiffCmd(g),
		newSnapshotCmd(g), newSnapshotsCmd(g), newRestoreCmd(g),
		newCommitCmd(g, false), newCommitCmd(g, true), newReplaceCmd(g), newRebaseCmd(g), newLogCmd(g),
		newStopCmd(g), newResetCmd(g),
		newAddCmd(g), newRemoveCmd(g),
		newEnableCmd(g, true), newEnableCmd(g, false), newSetCmd(g),
	)
	return c
}
