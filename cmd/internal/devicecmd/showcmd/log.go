package showcmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot/flight"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
)

// NewLog is "rubus device log".
func NewLog(g *cli.Globals) *cobra.Command {
	var follow, list bool
	var n int
	c := &cobra.Command{
		Use:   "log SERIAL",
		Short: "Show what happened in a board's boot, and why it ended as it did",
		Long: `Show what was heard and done in a board's latest boot, from its first DISCOVER
to user space, and a verdict: one sentence on what became of it and what to do.
The records of the last 20 boots are kept on disk.

A file that is "not there, as on most boards" is none that anybody misses.`,
		Example: `  rubus device log bench-01
  rubus device log bench-01 --follow       # and what comes
  rubus device log bench-01 --list         # all recorded boots
  rubus device log bench-01 --boot -1      # the boot before the latest`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			if follow && (list || c.Flags().Changed("boot")) {
				return fmt.Errorf("--follow shows the latest boot: leave out --list and --boot")
			}
			l, err := g.Daemon().Log(c.Context(), serial, n)
			if err != nil && !(follow && control.IsKind(err, control.KindNotFound)) {
				return err
			}
			switch {
			case follow:
				f := follower{g: g, ask: func(ctx context.Context, n int) (control.BootLog, error) { return g.Daemon().Log(ctx, serial, n) }}
				return f.run(c.Context(), time.NewTicker(followEvery).C)
			case list && g.JSON:
				return g.PrintJSON(l.Boots)
			case list:
				printBoots(g, l.Boots, time.Now())
				return nil
			case g.JSON:
				return g.PrintJSON(l)
			}
			printHead(g, l)
			for _, e := range l.Timeline.Events {
				printEvent(g, l.Timeline.Begin, e)
			}
			printVerdict(g, l.Verdict)
			return nil
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes; with --json a line for each event")
	c.Flags().BoolVar(&list, "list", false, "list the recorded boots")
	c.Flags().IntVar(&n, "boot", 0, "the boot with this number; -1 is the one before the latest")
	return c
}

func printBoots(g *cli.Globals, boots []flight.Summary, now time.Time) {
	var rows [][]string
	for i := len(boots) - 1; i >= 0; i-- {
		b := boots[i]
		rows = append(rows, []string{fmt.Sprint(b.N), ui.Ago(now, b.Begin), string(b.Verdict.Grade), b.Verdict.Text})
	}
	ui.Table(g.Stdout, []string{"BOOT", "AGO", "RESULT", "VERDICT"}, rows, 3)
}

func printHead(g *cli.Globals, l control.BootLog) {
	fmt.Fprintf(g.Stdout, "boot %d of %s, begun %s\n\n", l.Timeline.N, l.Timeline.Serial, l.Timeline.Begin.Local().Format("2006-01-02 15:04:05"))
}

func printVerdict(g *cli.Globals, v flight.Verdict) {
	fmt.Fprintf(g.Stdout, "\nverdict: %s\n", v.Text)
	for _, n := range v.Notes {
		fmt.Fprintf(g.Stdout, "note: %s\n", n)
	}
}

func printEvent(g *cli.Globals, begin time.Time, e flight.Event) {
	fmt.Fprintf(g.Stdout, "%8.2f s  %s\n", e.Time.Sub(begin).Seconds(), eventText(e))
}

// eventText is an event as people read it.
func eventText(e flight.Event) string {
	switch e.Kind {
	case flight.Discover:
		text := "DISCOVER"
		if e.Stage != "" {
			text += " by " + e.Stage
		}
		if e.Revision != 0 {
			text += " of a Pi " + e.Revision.String()
		}
		if e.Bootloader != "" {
			text += ", bootloader " + e.Bootloader
		}
		return text
	case flight.Offered:
		return fmt.Sprintf("%s by rubus, %s%s", offerName(e), e.Server, offerText(e))
	case flight.Heard:
		return fmt.Sprintf("%s by %s%s", offerName(e), e.Server, offerText(e))
	case flight.Unanswered:
		return "not answered: " + e.Text
	case flight.Requested:
		return e.Text + " by the board"
	case flight.Prepared:
		return preparedText(e)
	case flight.Blocked:
		return "no boot files: " + e.Text
	case flight.Warned:
		return "warning: " + e.Text
	case flight.File:
		return bootFileText(e)
	case flight.Refused:
		return "refused: " + e.Text
	case flight.Mounted:
		return "MOUNT " + e.Text
	case flight.Called:
		return "first NFS call"
	case flight.Running:
		return "init was read: user space"
	case flight.Good:
		return "reported as good"
	case flight.Failed:
		return "failed: " + e.Text
	case flight.Rebased:
		return "rebase: " + e.Text
	case flight.Stopped:
		return "cut off by an admin"
	case flight.Console:
		return "console: " + e.Text
	case flight.Lost:
		return ui.Count(int64(e.Count), "more event") + " not kept"
	}
	return string(e.Kind) + " " + e.Text
}

func offerName(e flight.Event) string {
	if e.Confirmed {
		return "ACK"
	}
	return "OFFER"
}

func offerText(e flight.Event) string {
	var parts []string
	if e.Address.IsValid() {
		parts = append(parts, "address "+e.Address.String())
	}
	if e.BootServer != "" {
		parts = append(parts, fmt.Sprintf("option 66 %q", e.BootServer))
	}
	if e.PiBoot {
		parts = append(parts, "boot server for Pis")
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func preparedText(e flight.Event) string {
	text := "boot files settled, boot " + e.Boot
	if e.LastGood {
		text = fmt.Sprintf("boot files of the last good boot, boot %s: %s", e.Boot, e.Problem)
	}
	if e.Kernel() != "" {
		text += ", kernel " + e.Kernel()
	}
	return text
}

func bootFileText(e flight.Event) string {
	text := fmt.Sprintf("%-28s ", e.Name)
	switch e.Outcome {
	case flight.Whole:
		text += fmt.Sprintf("%9s in %s", ui.Bytes(e.Bytes), brief(e.Took))
	case flight.Probed:
		text += fmt.Sprintf("%9s, looked at", ui.Bytes(e.Size))
	case flight.Expected:
		text += "not there, as on most boards"
	case flight.Missing:
		text += "not there"
	case flight.TimedOut:
		text += fmt.Sprintf("the board stopped after %s of %s", ui.Bytes(e.Bytes), ui.Bytes(e.Size))
	case flight.GaveUp:
		text += fmt.Sprintf("the board gave up after %s of %s", ui.Bytes(e.Bytes), ui.Bytes(e.Size))
	default:
		text += "failed: " + e.Text
	}
	if e.Retries > 0 {
		text += fmt.Sprintf(", %d packets sent again", e.Retries)
	}
	return text
}
