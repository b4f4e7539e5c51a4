package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
)

// notRunning says that an error means that there is no daemon.
func notRunning(err error) bool { return control.IsKind(err, control.KindNotRunning) }

func newStatusCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what every board does",
		Long: `Show every board with its image, how far its boot is, its address and since
when that holds. "lab@3 (lab@5 available)" means: the board runs version 3 and
stays there, because it has writes over it; "rubus device rebase" moves it to 5
with them, "rubus device reset" without.

The exit code is 1 when the daemon is not running.`,
		Args:              cli.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := g.Daemon().Status(c.Context())
			switch {
			case g.JSON && notRunning(err):
				// Programs tell by "running", people are told below.
				if perr := g.PrintJSON(control.Status{Boards: []control.Board{}, Unknown: []control.Sighting{}}); perr != nil {
					return perr
				}
				return err
			case notRunning(err):
				return ui.Hint(err, "\"rubus device list\" shows the devices without it")
			case err != nil:
				return err
			case g.JSON:
				return g.PrintJSON(st)
			}
			printStatus(g, st, time.Now())
			return nil
		},
	}
}

func printStatus(g *cli.Globals, st control.Status, now time.Time) {
	if len(st.Boards) == 0 {
		fmt.Fprintln(g.Stdout, "no boards yet: add one with \"rubus device add SERIAL\"")
	} else {
		printBoards(g, st.Boards, now)
	}
	for _, b := range st.Boards {
		for _, p := range cli.Remarks(b) {
			fmt.Fprintf(g.Stdout, "\n%s: %s\n", b.Serial, p)
		}
	}
	for _, u := range st.Unfinished {
		fmt.Fprintf(g.Stdout, "\n%s\n", cli.UnfinishedText(u))
	}
	if len(st.Unknown) > 0 {
		fmt.Fprintf(g.Stdout, "\nunknown boards that asked to boot:\n")
		var rows [][]string
		for _, u := range st.Unknown {
			rows = append(rows, []string{
				ui.Dash(u.Serial.String()), u.MAC.String(), ui.Dash(u.Model), ui.Dash(u.Bootloader), ui.Ago(now, u.First), ui.Ago(now, u.Last),
			})
		}
		ui.Table(g.Stdout, []string{"BOARD", "MAC", "MODEL", "BOOTLOADER", "FIRST", "LAST"}, rows, 3)
		fmt.Fprintln(g.Stdout, "\n\"rubus device add BOARD\" adds one")
	}
	for _, w := range st.Warnings {
		g.Notef("warning: %s", w)
	}
	for _, why := range st.NoDHCP {
		g.Notef("warning: no addresses are given out: %s", why)
	}
	if st.Refused != "" {
		g.Notef("warning: the files on disk are not in force:")
		for line := range strings.Lines(st.Refused) {
			g.Notef("warning: %s", strings.TrimSuffix(line, "\n"))
		}
	}
	if len(st.RestartFor) > 0 {
		g.Notef("warning: rubus.yaml changed (%s): restart the daemon for it to hold", ui.Words(st.RestartFor))
	}
}

func printBoards(g *cli.Globals, boards []control.Board, now time.Time) {
	rows := make([][]string, 0, len(boards))
	for _, b := range boards {
		address := ""
		if b.Address.IsValid() {
			address = b.Address.String()
		}
		rows = append(rows, []string{b.Serial.String(), ui.Dash(b.Name), ui.Dash(cli.ImageText(b)), phaseText(b), ui.Dash(address), ui.Ago(now, b.Since)})
	}
	ui.Table(g.Stdout, []string{"BOARD", "NAME", "IMAGE", "PHASE", "ADDRESS", "SINCE"}, rows, 1, 2)
}

// phaseText is the phase, or what explains it better.
func phaseText(b control.Board) string {
	idle := slices.Contains([]string{"unseen", "down", "stopped"}, b.Phase)
	switch {
	case !b.Listed && idle:
		return "removed"
	case !b.Enabled && idle:
		return "disabled"
	case b.Problem != "" && idle:
		return "error"
	}
	return b.Phase
}

func newReloadCmd(g *cli.Globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read devices.yaml again",
		Long: `Make the daemon read its configuration again and say what changed, or all that
is wrong; then what was in force stays. It also does so by itself when the file
is saved, and on SIGHUP. A file that is empty, or drops more than half of the
devices, looks like an accident and is refused without --yes.`,
		Args:              cli.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := g.Daemon().Reload(c.Context(), yes)
			switch {
			case err != nil:
				return err
			case g.JSON:
				return g.PrintJSON(r)
			}
			fmt.Fprintf(g.Stdout, "%s: %d added, %d removed, %d changed\n",
				ui.Count(int64(r.Devices), "device"), len(r.Added), len(r.Removed), len(r.Changed))
			if len(r.RestartFor) > 0 {
				g.Notef("warning: rubus.yaml changed (%s): restart the daemon for it to hold", ui.Words(r.RestartFor))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "take a file that drops most devices, too")
	return c
}
