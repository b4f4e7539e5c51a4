package statecmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// stopped is what "rubus device stop --json" prints.
type stopped struct {
	Serial device.Serial `json:"serial"`
	// WasUp is "yes", "no" or "unknown", as in status.
	WasUp string `json:"was_up"`
}

// NewStop is "rubus device stop".
func NewStop(g *cli.Globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "stop SERIAL",
		Short: "Cut a board off its root",
		Long: `Cut a board off its root: its export ends and its overlay is unmounted. A board
that runs hangs. Its writes stay, and it may boot again unless it is disabled.`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := g.Daemon().Board(c.Context(), serial)
			if err != nil {
				return err
			}
			if b.Up != "no" {
				g.Notef("%s is up (%s): it hangs when it loses its root", boardName(b), upText(b))
				if err := g.Confirm("cut it off?", yes); err != nil {
					return err
				}
			}
			if err := g.Daemon().Stop(c.Context(), serial); err != nil {
				return err
			}
			g.Notef("%s is cut off; its writes are kept", boardName(b))
			return g.Answer(stopped{Serial: serial, WasUp: b.Up})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// NewReset is "rubus device reset".
func NewReset(g *cli.Globals) *cobra.Command {
	var yes, force bool
	var keep []string
	c := &cobra.Command{
		Use:   "reset SERIAL",
		Short: "Take a board's writes away, so that it starts from its image again",
		Long: `Take a board's writes away, so that its next boot starts from its image as it is
tagged then. They become snapshots, which go after 30 days: "rubus device
restore" brings them back. What will go is shown before you are asked. A board
that is up, or may be, is refused; --force cuts it off first. --keep carries
what it changed at or below a path over to the image.`,
		Example: `  rubus device reset bench-01
  rubus device reset bench-01 --keep /home --keep /etc/ssh`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			d := g.Daemon()
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := boardToChange(c.Context(), d, serial, force)
			if err != nil {
				return err
			}
			plan, err := d.ResetPlan(c.Context(), serial)
			if err != nil {
				return err
			}
			if len(plan.Uppers) == 0 {
				g.Notef("%s has no writes", boardName(b))
				return g.Answer(plan)
			}
			showPlan(g, plan, time.Now())
			if err := confirmCutOff(g, b, fmt.Sprintf("set all of this of %s aside?", boardName(b)), yes); err != nil {
				return err
			}
			tell, end := g.Telling("copying")
			err = d.Reset(c.Context(), serial, control.ResetOptions{Force: force, Keep: keep}, tell)
			if end(); err != nil {
				return err
			}
			next := ""
			if !plan.Image.IsZero() {
				next = " and starts from " + plan.Image.String() + " at its next boot"
			}
			g.Notef("%s is reset%s", boardName(b), next)
			return g.Answer(plan)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&force, "force", false, "cut the board off if it is up")
	c.Flags().StringSliceVar(&keep, "keep", nil, "keep what the board changed at or below this `path`; may be said again")
	return c
}

// boardToChange is a board whose root may be taken from it: one that is up, or may
// be, only with force.
func boardToChange(ctx context.Context, d *control.Client, serial device.Serial, force bool) (control.Board, error) {
	b, err := d.Board(ctx, serial)
	if err == nil && b.Up != "no" && !force {
		err = upRefusal(b)
	}
	return b, err
}

// confirmCutOff asks before the root of a board is taken from it, and says so if
// the board is up.
func confirmCutOff(g *cli.Globals, b control.Board, question string, yes bool) error {
	if b.Up != "no" {
		g.Notef("%s is up (%s): it is cut off first", boardName(b), upText(b))
	}
	return g.Confirm(question, yes)
}

// upRefusal is why a board's root is not taken from it.
func upRefusal(b control.Board) error {
	if b.Up == "unknown" {
		return ui.Hint(fmt.Errorf("%s may be up: nobody can tell (%s)", boardName(b), b.Phase),
			"try again in a minute: rubus asks the board for a sign of life", "--force cuts it off first")
	}
	return ui.Hint(fmt.Errorf("%s is up (%s)", boardName(b), b.Phase), "shut it down first, or cut it off with --force")
}

// showPlan prints what would be deleted, on standard error, as the question is.
func showPlan(g *cli.Globals, p control.ResetPlan, now time.Time) {
	var rows [][]string
	var bytes, files int64
	for _, u := range p.Uppers {
		bytes, files = bytes+u.Bytes, files+u.Files
		rows = append(rows, []string{u.State, u.Image.String(), ui.Bytes(u.Bytes), ui.Count(u.Files, "file"), ui.Ago(now, u.Made), u.Name})
	}
	ui.Table(g.Stderr, []string{"WRITES", "OVER", "BYTES", "FILES", "AGE", "UPPER"}, rows, 5, 1)
	if len(rows) > 1 {
		fmt.Fprintf(g.Stderr, "%s in %s\n", ui.Bytes(bytes), ui.Count(files, "file"))
	}
}

// boardName is "bench-01 (5b154510)", or the serial alone.
func boardName(b control.Board) string {
	if b.Name == "" {
		return b.Serial.String()
	}
	return fmt.Sprintf("%s (%s)", b.Name, b.Serial)
}

func upText(b control.Board) string {
	if b.Up == "unknown" {
		return "nobody can tell, so it counts as up"
	}
	return b.Phase
}
