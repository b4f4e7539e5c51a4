package rebasecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"rubus/boot/batch"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/rebase"
)

// applyRebase has the daemon carry out what was planned.
func applyRebase(ctx context.Context, g *cli.Globals, all []rebasing, to imageref.Ref, o rebaseFlags) error {
	var todo []device.Serial
	clash := 0
	for _, r := range all {
		if r.Skipped != "" {
			continue
		}
		todo = append(todo, r.Serial)
		if r.Count(rebase.Conflict) > 0 {
			clash++
		}
	}
	if len(todo) == 0 {
		g.Notef("there is nothing to do")
		return g.Answer(applied{Plans: all})
	}
	if clash > 0 && o.conflicts == "" {
		return ui.Hint(fmt.Errorf("%s and %s changed the same files: nothing was done", ui.Count(int64(clash), "board"), to),
			"--conflicts board|image says whose hold")
	}
	what := fmt.Sprintf("move %s to %s?", ui.Count(int64(len(todo)), "board"), to)
	now := todo
	if o.first > 0 && o.first < len(todo) {
		now = todo[:o.first]
		what = fmt.Sprintf("move %s to %s, and %d more when the first had a good boot?", ui.Count(int64(o.first), "board"), to, len(todo)-o.first)
	}
	if err := g.Confirm(what, o.yes); err != nil {
		return err
	}
	d := g.Daemon()
	for _, s := range now {
		if !o.force {
			break
		}
		if board, err := d.Board(ctx, s); err == nil && board.Move != nil && board.Move.State == "trial" && board.Move.To == to {
			continue // it is there, or on its way, and is passed over
		}
		if err := d.Stop(ctx, s); err != nil {
			return err
		}
	}
	tell, end := g.Telling("copying")
	b, err := d.Rebase(ctx, control.Rebase{Boards: todo, Image: to, Conflicts: o.conflicts, First: o.first}, tell)
	end()
	if err != nil {
		if ctx.Err() != nil {
			err = ui.Hint(err, "boards whose turn it is move when they boot next: \"rubus device rebase --status\" shows them, --batch N --undo takes it back")
		}
		return err
	}
	return errors.Join(g.Answer(applied{all, &b}), tellBatch(g, b))
}

// tellBatch says what was done to a batch. The error says how many boards were not moved.
func tellBatch(g *cli.Globals, b batch.Batch) error {
	failed, mute := 0, false
	for _, m := range b.Members {
		if m.State == "failed" {
			failed++
			ui.Report(g.Stderr, fmt.Errorf("board %s is not moved: %s", m.Serial, m.Why))
			continue
		}
		mute = mute || !m.Reports && slices.Contains([]string{"pending", "trial", "moved"}, m.State)
		g.Notef("board %s %s", m.Serial, memberText(m, b.To))
	}
	if mute {
		g.Notef("warning: %s has no rubus-booted.service: nobody can tell whether a boot is good, and no board goes back by itself", b.To)
		if b.State == batch.Canaries {
			g.Notef("the rest waits for \"rubus device rebase --batch %d --release\"", b.N)
		}
	}
	if b.Why != "" {
		g.Notef("batch %d has stopped: %s", b.N, b.Why)
	}
	g.Notef("this is batch %d: \"rubus device rebase --status --batch %d\" shows how far it is, --undo takes it back", b.N, b.N)
	if failed > 0 {
		return fmt.Errorf("%s not moved", ui.Count(int64(failed), "board"))
	}
	return nil
}

// memberText is what a board of a batch does, or did.
func memberText(m batch.Member, to imageref.Ref) string {
	text := map[string]string{
		"pending": fmt.Sprintf("moves to %s when it boots next", to),
		"trial":   fmt.Sprintf("boots %s next", to),
		"waiting": "waits until the first had a good boot",
		"good":    fmt.Sprintf("moved to %s, where its boot was good", to),
		"moved":   fmt.Sprintf("moved to %s", to),
		"back":    "went back to what it had",
		"undoing": "goes back to what it had when it boots next",
		"undone":  "has what it had",
		"skipped": "had nothing to move",
		"dropped": "is not moved any more",
	}[m.State]
	if text == "" {
		text = "is " + strconv.Quote(m.State)
	}
	if m.State == "trial" && m.Why != "" {
		text = fmt.Sprintf("is on trial of %s", to)
	}
	if m.Why != "" {
		text += ": " + ui.Visible(m.Why)
	}
	if m.Snapshot != 0 {
		text += fmt.Sprintf(" (snapshot %d)", m.Snapshot)
	}
	return text
}

// onBatch does what is asked of batches: shows them, takes one back, or releases its rest.
func onBatch(ctx context.Context, g *cli.Globals, args []string, o rebaseFlags) error {
	switch {
	case len(args) > 0 || o.group != "" || o.all || o.apply:
		return ui.Usage(errors.New("--status, --release and --batch are about batches: they take no boards, and no --apply"))
	case o.status && (o.undo || o.release || o.rest) || o.undo && o.release || o.rest && (o.undo || o.release):
		return ui.Usage(errors.New("--status, --undo, --release and --rest exclude each other"))
	case (o.release || o.rest) && o.batch == 0:
		return ui.Usage(errors.New("--release and --rest need --batch N"), "\"rubus device rebase --status\" lists the batches")
	case o.rest:
		return restOfBatch(ctx, g, o)
	case o.undo:
		if err := g.Confirm(fmt.Sprintf("take the boards of batch %d back to what they had?", o.batch), o.yes); err != nil {
			return err
		}
		tell, end := g.Telling("copying")
		b, err := g.Daemon().UndoBatch(ctx, o.batch, tell)
		end()
		if err == nil {
			err = g.Answer(b)
		}
		if b.N != 0 {
			showMembers(g, b)
		}
		return err
	case o.release:
		if err := g.Confirm(fmt.Sprintf("move the rest of batch %d without waiting for the first?", o.batch), o.yes); err != nil {
			return err
		}
		b, err := g.Daemon().ReleaseBatch(ctx, o.batch)
		if err != nil {
			return err
		}
		showMembers(g, b)
		return g.Answer(b)
	}
	return showBatches(ctx, g, o.batch)
}

// restOfBatch orders the boards of a batch that did not move once more, as the batch had it
// where nothing else is said.
func restOfBatch(ctx context.Context, g *cli.Globals, o rebaseFlags) error {
	b, err := batchNumber(ctx, g, o.batch)
	if err != nil {
		return err
	}
	boards := b.Rest()
	if len(boards) == 0 {
		if b.State == batch.Undone {
			return fmt.Errorf("batch %d was undone", b.N)
		}
		g.Notef("batch %d has no board that did not move and is not about to", b.N)
		return g.Answer(applied{Plans: []rebasing{}})
	}
	if o.conflicts == "" {
		o.conflicts = b.Conflicts
	}
	if o.first == 0 {
		o.first = b.First
	}
	o.apply = true
	return rebaseBoards(ctx, g, boards, b.To, o)
}

// batchNumber is one batch as it is now.
func batchNumber(ctx context.Context, g *cli.Globals, n int) (batch.Batch, error) {
	all, err := g.Daemon().Batches(ctx)
	if err != nil {
		return batch.Batch{}, err
	}
	i := slices.IndexFunc(all, func(b batch.Batch) bool { return b.N == n })
	if i < 0 {
		return batch.Batch{}, ui.Hint(fmt.Errorf("there is no batch %d", n), "\"rubus device rebase --status\" lists them")
	}
	return all[i], nil
}

func showBatches(ctx context.Context, g *cli.Globals, n int) error {
	if n != 0 {
		b, err := batchNumber(ctx, g, n)
		if err != nil {
			return err
		}
		unfinished, err := unfinishedBatches(ctx, g)
		if err != nil {
			return err
		}
		showMembers(g, b)
		if text := unfinished[n]; text != "" && !g.JSON {
			fmt.Fprintf(g.Stdout, "\n%s\n", text)
		}
		return g.Answer(b)
	}
	all, err := g.Daemon().Batches(ctx)
	if err != nil {
		return err
	}
	if g.JSON {
		return g.PrintJSON(all)
	}
	if len(all) == 0 {
		g.Notef("no board was moved yet: \"rubus device rebase SERIAL IMAGE --apply\" moves one")
		return nil
	}
	var rows [][]string
	for _, b := range all {
		rows = append(rows, []string{strconv.Itoa(b.N), ui.Ago(time.Now(), b.Made), b.To.String(), string(b.State), countsText(b)})
	}
	ui.Table(g.Stdout, []string{"BATCH", "MADE", "TO", "STATE", "BOARDS"}, rows, 4, 2)
	unfinished, err := unfinishedBatches(ctx, g)
	if err != nil {
		return err
	}
	for _, b := range all {
		switch text := unfinished[b.N]; {
		case text != "":
			fmt.Fprintf(g.Stdout, "\n%s\n", text)
		case b.Why != "":
			fmt.Fprintf(g.Stdout, "\nbatch %d: %s\n", b.N, ui.Visible(b.Why))
		}
	}
	return nil
}

// unfinishedBatches says, by number, what is to be done about batches that stopped before all
// was done.
func unfinishedBatches(ctx context.Context, g *cli.Globals) (map[int]string, error) {
	st, err := g.Daemon().Status(ctx)
	if err != nil {
		return nil, err
	}
	texts := map[int]string{}
	for _, u := range st.Unfinished {
		texts[u.N] = cli.UnfinishedText(u)
	}
	return texts, nil
}

// countsText counts the boards of a batch by what they do.
func countsText(b batch.Batch) string {
	var order []string
	counts := map[string]int{}
	for _, m := range b.Members {
		if counts[m.State] == 0 {
			order = append(order, m.State)
		}
		counts[m.State]++
	}
	for i, s := range order {
		order[i] = fmt.Sprintf("%d %s", counts[s], s)
	}
	return ui.Words(order)
}

// showMembers prints a batch board by board, for people.
func showMembers(g *cli.Globals, b batch.Batch) {
	if g.JSON {
		return
	}
	fmt.Fprintf(g.Stdout, "batch %d to %s is %s\n", b.N, b.To, b.State)
	if b.Why != "" {
		fmt.Fprintln(g.Stdout, ui.Visible(b.Why))
	}
	for _, m := range b.Members {
		fmt.Fprintf(g.Stdout, "%s %s\n", m.Serial, memberText(m, b.To))
	}
}
