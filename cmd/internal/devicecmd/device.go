package devicecmd

import (
	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/devicecmd/changecmd"
	"rubus/cmd/internal/devicecmd/entrycmd"
	"rubus/cmd/internal/devicecmd/keycmd"
	"rubus/cmd/internal/devicecmd/rebasecmd"
	"rubus/cmd/internal/devicecmd/showcmd"
	"rubus/cmd/internal/devicecmd/statecmd"
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
		showcmd.NewList(g), showcmd.NewShow(g), showcmd.NewLog(g),
		entrycmd.NewAdd(g), entrycmd.NewRemove(g), entrycmd.NewEnable(g, true), entrycmd.NewEnable(g, false), entrycmd.NewSet(g),
		keycmd.NewKnownHosts(g), keycmd.NewRekey(g),
		changecmd.NewDiff(g), changecmd.NewCommit(g, false), changecmd.NewCommit(g, true),
		statecmd.NewSnapshot(g), statecmd.NewSnapshots(g), statecmd.NewRestore(g), statecmd.NewReplace(g), statecmd.NewStop(g), statecmd.NewReset(g),
		rebasecmd.NewRebase(g),
	)
	return c
}
