package cli

import (
	"fmt"

	"rubus/boot/batch"
	"rubus/cmd/internal/ui"
)

// UnfinishedText says what became of a batch that stopped before all was done, and what to
// say for it to go on.
func UnfinishedText(u batch.Unfinished) string {
	if u.State == batch.Undone {
		return fmt.Sprintf("batch %d was undone, and %s not: \"rubus device rebase --batch %d --undo\" goes on", u.N, areBoards(len(u.Left)), u.N)
	}
	text := fmt.Sprintf("batch %d to %s", u.N, u.To)
	if u.Why != "" {
		text += fmt.Sprintf(" stopped (%s)", ui.Visible(u.Why))
	}
	return fmt.Sprintf("%s: %s not moved\n\"rubus device rebase --batch %d --rest\" moves the rest, --undo takes back what moved", text, areBoards(len(u.Rest)), u.N)
}

func areBoards(n int) string {
	if n == 1 {
		return "1 board is"
	}
	return ui.Count(int64(n), "board") + " are"
}
