package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
)

// daemon is a client of the running daemon.
func (g *globals) daemon() *control.Client { return control.NewClient(g.controlSocket()) }

// did tells the daemon, for its log, of a change that this process made. Without
// a daemon there is nobody to tell; the change is made either way.
func (g *globals) did(ctx context.Context, verb string, what ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := g.daemon().Did(ctx, verb, what...); err != nil && !isKind(err, control.KindNotRunning) {
		g.notef("warning: the daemon's log has no line of this: %v", err)
	}
}

// isKind says that an error came from the control socket with this kind.
func isKind(err error, k control.Kind) bool {
	e, ok := errors.AsType[*control.Error](err)
	return ok && e.Kind == k
}

// notRunning says that an error means that there is no daemon.
func notRunning(err error) bool { return isKind(err, control.KindNotRunning) }

func newStatusCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what every board does",
		Long: `Show every board with its image, how far its boot is, its address and since
when that holds. "lab@3 (lab@5 available)" means: the board runs version 3 and
stays there, because it has writes over it; "rubus device reset" moves it to 5.

The exit code is 1 when the daemon is not running.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := g.daemon().Status(c.Context())
			switch {
			case g.JSON && notRunning(err):
				// Programs tell by "running", people are told below.
				if perr := g.printJSON(control.Status{Boards: []control.Board{}, Unknown: []control.Sighting{}}); perr != nil {
					return perr
				}
				return err
			case notRunning(err):
				return ui.Hint(err, "\"rubus device list\" shows the devices without it")
			case err != nil:
				return err
			case g.JSON:
				return g.printJSON(st)
			}
			printStatus(g, st, time.Now())
			return nil
		},
	}
}

func printStatus(g *globals, st control.Status, now time.Time) {
	if len(st.Boards) == 0 {
		fmt.Fprintln(g.Stdout, "no boards yet: add one with \"rubus device add SERIAL\"")
	} else {
		printBoards(g, st.Boards, now)
	}
	for _, b := range st.Boards {
		for _, p := range []string{b.Problem, bootText(b), b.Refusal} {
			if p != "" {
				fmt.Fprintf(g.Stdout, "\n%s: %s\n", b.Serial, p)
			}
		}
	}
	if len(st.Unknown) > 0 {
		fmt.Fprintf(g.Stdout, "\nunknown boards that asked to boot:\n")
		var rows [][]string
		for _, u := range st.Unknown {
			rows = append(rows, []string{
				dash(u.Serial.String()), u.MAC.String(), dash(u.Model), dash(u.Bootloader), ui.Ago(now, u.First), ui.Ago(now, u.Last),
			})
		}
		ui.Table(g.Stdout, []string{"BOARD", "MAC", "MODEL", "BOOTLOADER", "FIRST", "LAST"}, rows, 3)
		fmt.Fprintln(g.Stdout, "\n\"rubus device add BOARD\" adds one")
	}
	for _, why := range st.NoDHCP {
		g.notef("warning: no addresses are given out: %s", why)
	}
	if st.Refused != "" {
		g.notef("warning: the files on disk are not in force:")
		for line := range strings.Lines(st.Refused) {
			g.notef("warning: %s", strings.TrimSuffix(line, "\n"))
		}
	}
	if len(st.RestartFor) > 0 {
		g.notef("warning: rubus.yaml changed (%s): restart the daemon for it to hold", joinWords(st.RestartFor))
	}
}

func printBoards(g *globals, boards []control.Board, now time.Time) {
	rows := make([][]string, 0, len(boards))
	for _, b := range boards {
		address := ""
		if b.Address.IsValid() {
			address = b.Address.String()
		}
		rows = append(rows, []string{b.Serial.String(), dash(b.Name), dash(imageText(b)), phaseText(b), dash(address), ui.Ago(now, b.Since)})
	}
	ui.Table(g.Stdout, []string{"BOARD", "NAME", "IMAGE", "PHASE", "ADDRESS", "SINCE"}, rows, 1, 2)
}

// imageText is what a board runs and what it could run.
func imageText(b control.Board) string {
	switch {
	case b.Running.IsZero():
		return b.Image.String()
	case b.Available.IsZero():
		return b.Running.String()
	}
	return fmt.Sprintf("%s (%s available)", b.Running, b.Available)
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

// bootText is what is not as usual about a board's boot; "" when nothing is.
func bootText(b control.Board) string {
	switch {
	case b.Boot.LastGood:
		return "it got the boot files of its last good boot: " + b.Boot.Why
	case b.Boot.Failures > 0:
		return fmt.Sprintf("%s in a row not reported as good with its present boot files; see \"rubus device log %s\"",
			count(int64(b.Boot.Failures), "boot"), b.Serial)
	}
	return ""
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newReloadCmd(g *globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read devices.yaml again",
		Long: `Make the daemon read its configuration again and say what changed, or all that
is wrong; then what was in force stays. It also does so by itself when the file
is saved, and on SIGHUP. A file that is empty, or drops more than half of the
devices, looks like an accident and is refused without --yes.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := g.daemon().Reload(c.Context(), yes)
			switch {
			case err != nil:
				return err
			case g.JSON:
				return g.printJSON(r)
			}
			fmt.Fprintf(g.Stdout, "%s: %d added, %d removed, %d changed\n",
				count(int64(r.Devices), "device"), len(r.Added), len(r.Removed), len(r.Changed))
			if len(r.RestartFor) > 0 {
				g.notef("warning: rubus.yaml changed (%s): restart the daemon for it to hold", joinWords(r.RestartFor))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "take a file that drops most devices, too")
	return c
}
