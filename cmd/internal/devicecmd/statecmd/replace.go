package statecmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/devicecmd/entrycmd"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/config/edit"
)

// replaced is what "rubus device replace --json" prints.
type replaced struct {
	Old device.Serial `json:"old"`
	New device.Serial `json:"new"`
	// Writes says that the old board had any.
	Writes bool `json:"writes"`
	Listed bool `json:"listed"`
}

// NewReplace is "rubus device replace".
func NewReplace(g *cli.Globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "replace OLD NEW",
		Short: "Give what a dead board has to another one",
		Long: `Give what a dead board has to another one: its writes, with its host keys and
names, its snapshots, and its entry in devices.yaml, comments kept ("mac" goes).
NEW is a serial; the board may never have been seen. OLD is refused from then
on. Both must be down.`,
		Example:           `  rubus device replace bench-01 b8123456`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			now, err := device.ParseSerial(args[1])
			if err != nil {
				return ui.Usage(err, "\"cat /proc/device-tree/serial-number\" on the board shows it")
			}
			old, err := g.SerialOf(ctx, args[0])
			if err != nil {
				return err
			}
			if err := g.Confirm(fmt.Sprintf("give all that board %s has to %s?", old, now), yes); err != nil {
				return err
			}
			d := g.Daemon()
			out := replaced{Old: old, New: now, Writes: true}
			err = d.Replace(ctx, old, now)
			if control.IsKind(err, control.KindNotFound) {
				out.Writes, err = false, nil
				g.Notef("board %s has written nothing", old)
			}
			if err != nil {
				return err
			}
			g.Notef("board %s has what %s had", now, old)
			s, err := g.LoadConfig()
			if err != nil {
				return err
			}
			if s.BySerial(old) == nil && s.BySerial(now) == nil {
				g.Notef("%s names neither: \"rubus device add %s\" lets it boot", g.DevicesFile, now)
				return g.Answer(out)
			}
			out.Listed = true
			quiet := *g // its answer is ours
			quiet.JSON = false
			if err := entrycmd.Edit(ctx, &quiet, fmt.Sprintf("device %s is now %s", old, now), edit.ReplaceDevice(old, now), true); err != nil {
				return ui.Hint(err, "its writes are handed over already: mend the file and run this again")
			}
			return g.Answer(out)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
