package rebasecmd

import (
	"fmt"
	"strconv"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/images/rebase"
)

// showPlans prints what would become of the boards' changes: a summary of all, and of one
// board alone, or of conflicts, each name.
func showPlans(g *cli.Globals, all []rebasing, o rebaseFlags) {
	var rows [][]string
	for _, r := range all {
		if r.Plan == nil {
			rows = append(rows, []string{r.Serial.String(), ui.Dash(r.From.String()), r.To.String(), "-", "-", "-", "-", r.Skipped})
			continue
		}
		rows = append(rows, []string{
			r.Serial.String(), r.From.String(), r.To.String(), strconv.Itoa(r.Count(rebase.Keep)), strconv.Itoa(r.Count(rebase.Drop)),
			strconv.Itoa(r.Count(rebase.Conflict)), strconv.Itoa(len(r.Packages)), "",
		})
	}
	ui.Table(g.Stdout, []string{"BOARD", "FROM", "TO", "KEEP", "DROP", "CONFLICT", "PACKAGES", ""}, rows, 7, 1, 2)
	for _, r := range all {
		if r.Plan == nil {
			continue
		}
		if len(all) == 1 {
			for _, p := range r.Packages {
				fmt.Fprintln(g.Stdout, packageVerdict(p))
			}
		}
		for _, i := range r.Items {
			if i.Verdict != rebase.Conflict && (len(all) > 1 || !o.files && (i.Package != "" || i.Verdict == rebase.Drop)) {
				continue
			}
			name := "/" + ui.Visible(i.Path)
			if len(all) > 1 {
				name = r.Serial.String() + " " + name
			}
			fmt.Fprintf(g.Stdout, "%-8s %s (%s: %s)\n", i.Verdict, name, i.Kind, i.Why)
		}
	}
}

func packageVerdict(p rebase.Package) string {
	holds := "the board's " + ui.Dash(ui.Visible(p.Board))
	if p.Verdict == rebase.Drop {
		holds = "the new version's " + ui.Dash(ui.Visible(p.Next))
	}
	return fmt.Sprintf("package  %s: %s holds (was %s, board %s, new %s)", ui.Visible(p.Name), holds, ui.Dash(ui.Visible(p.Was)), ui.Dash(ui.Visible(p.Board)), ui.Dash(ui.Visible(p.Next)))
}
