package statecmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// NewSnapshot is "rubus device snapshot".
func NewSnapshot(g *cli.Globals) *cobra.Command {
	var note string
	c := &cobra.Command{
		Use:   "snapshot SERIAL",
		Short: "Keep what a board wrote, as it is now",
		Long: `Keep what a board wrote, as it is now, to restore it later. A board may run: its
writes wait while they are copied, without an error, and the copy is what a
power cut at that moment would have left.`,
		Example:           `  rubus device snapshot bench-01 --note "before the upgrade"`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			tell, end := g.Telling("copying")
			s, err := g.Daemon().Snapshot(c.Context(), serial, note, 0, tell)
			end()
			if err != nil {
				return err
			}
			if g.JSON {
				return g.PrintJSON(s)
			}
			fmt.Fprintf(g.Stdout, "snapshot %d of %s over %s: %s, %s\n", s.N, serial, s.Image, ui.Bytes(s.Bytes), ui.Count(s.Files, "file"))
			return nil
		},
	}
	c.Flags().StringVar(&note, "note", "", "a `text` that says what it is")
	return c
}

// NewSnapshots is "rubus device snapshots".
func NewSnapshots(g *cli.Globals) *cobra.Command {
	var remove int
	var yes bool
	c := &cobra.Command{
		Use:   "snapshots SERIAL",
		Short: "List, or remove, what is kept of a board",
		Long: `List the snapshots of a board: those that were asked for, and what a reset or a
restore has set aside, which goes by itself after 30 days.`,
		Example: `  rubus device snapshots bench-01
  rubus device snapshots bench-01 --remove 3`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			d := g.Daemon()
			all, err := d.Snapshots(c.Context(), serial)
			if err != nil {
				return err
			}
			if remove == 0 {
				if g.JSON {
					return g.PrintJSON(all)
				}
				listSnapshots(g, all, time.Now())
				return nil
			}
			s, err := findSnapshot(all, serial, remove)
			if err != nil {
				return err
			}
			g.Notef("%s", snapshotText(s))
			if err := g.Confirm("remove it for good?", yes); err != nil {
				return err
			}
			if err := d.RemoveSnapshot(c.Context(), serial, remove); err != nil {
				return err
			}
			g.Notef("snapshot %d of %s is removed", remove, serial)
			return g.Answer(s)
		},
	}
	c.Flags().IntVar(&remove, "remove", 0, "remove the snapshot of this `number`")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func listSnapshots(g *cli.Globals, all []control.Snapshot, now time.Time) {
	if len(all) == 0 {
		g.Notef("there are no snapshots: \"rubus device snapshot SERIAL\" makes one")
		return
	}
	var rows [][]string
	for _, s := range all {
		goes := "-"
		if !s.Expires.IsZero() {
			goes = ui.Ago(s.Expires, now)
		}
		rows = append(rows, []string{
			strconv.Itoa(s.N), ui.Ago(now, s.Made), s.Image.String(), ui.Bytes(s.Bytes), strconv.FormatInt(s.Files, 10), goes, ui.Visible(s.Note),
		})
	}
	ui.Table(g.Stdout, []string{"N", "AGE", "OVER", "BYTES", "FILES", "GOES IN", "NOTE"}, rows, 6, 2)
}

func findSnapshot(all []control.Snapshot, serial device.Serial, n int) (control.Snapshot, error) {
	var have []string
	for _, s := range all {
		if s.N == n {
			return s, nil
		}
		have = append(have, strconv.Itoa(s.N))
	}
	e := fmt.Errorf("board %s has no snapshot %d", serial, n)
	if len(have) == 0 {
		return control.Snapshot{}, ui.Hint(e, "it has none")
	}
	return control.Snapshot{}, ui.Hint(e, "there is "+strings.Join(have, ", "))
}

func snapshotText(s control.Snapshot) string {
	t := fmt.Sprintf("snapshot %d over %s: %s, %s, made %s", s.N, s.Image, ui.Bytes(s.Bytes), ui.Count(s.Files, "file"), s.Made.Local().Format(ui.TimeForm))
	if s.Note != "" {
		t += ", " + strconv.Quote(s.Note)
	}
	return t
}

// NewRestore is "rubus device restore".
func NewRestore(g *cli.Globals) *cobra.Command {
	var yes, force bool
	c := &cobra.Command{
		Use:   "restore SERIAL N",
		Short: "Make a snapshot the root of a board again",
		Long: `Make a snapshot the root of a board from its next boot on. What the board has
now is set aside as another snapshot, so this can be undone. A board that is up,
or may be, is refused; --force cuts it off first.`,
		Example: `  rubus device snapshots bench-01
  rubus device restore bench-01 3`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return ui.Usage(fmt.Errorf("%q is no number of a snapshot", args[1]), "\"rubus device snapshots SERIAL\" lists them")
			}
			return restoreSnapshot(g, c, serial, n, yes, force)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&force, "force", false, "cut the board off if it is up")
	return c
}

func restoreSnapshot(g *cli.Globals, c *cobra.Command, serial device.Serial, n int, yes, force bool) error {
	d := g.Daemon()
	b, err := boardToChange(c.Context(), d, serial, force)
	if err != nil {
		return err
	}
	all, err := d.Snapshots(c.Context(), serial)
	if err != nil {
		return err
	}
	s, err := findSnapshot(all, serial, n)
	if err != nil {
		return err
	}
	g.Notef("%s", snapshotText(s))
	question := fmt.Sprintf("make it the root of %s? what it has now becomes a snapshot", boardName(b))
	if err := confirmCutOff(g, b, question, yes); err != nil {
		return err
	}
	if b.Up != "no" {
		if err := d.Stop(c.Context(), serial); err != nil {
			return err
		}
	}
	tell, end := g.Telling("copying")
	err = d.Restore(c.Context(), serial, n, tell)
	end()
	if err != nil {
		return err
	}
	g.Notef("%s has snapshot %d at its next boot", boardName(b), n)
	return g.Answer(s)
}
