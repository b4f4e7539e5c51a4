package rebasecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/boot/batch"
	"rubus/boot/carry"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/rebase"
)

// rebasing is what "rubus device rebase" was asked for, and with --json each board's
// element of what it prints.
type rebasing struct {
	Serial device.Serial `json:"serial"`
	From   imageref.Ref  `json:"from,omitzero"`
	To     imageref.Ref  `json:"to"`
	*rebase.Plan
	// Skipped is why nothing is to be done.
	Skipped string `json:"skipped,omitempty"`
}

// applied is what --apply prints with --json.
type applied struct {
	Plans []rebasing   `json:"plans"`
	Batch *batch.Batch `json:"batch"` // null: there was nothing to do
}

type rebaseFlags struct {
	group                   string
	all, apply, undo, files bool
	yes, force              bool
	status, release, rest   bool
	conflicts               string
	first, batch            int
}

// NewRebase is "rubus device rebase".
func NewRebase(g *cli.Globals) *cobra.Command {
	var o rebaseFlags
	c := &cobra.Command{
		Use:   "rebase SERIAL... IMAGE[@VERSION]",
		Short: "Carry what boards wrote over to another version",
		Long: `Carry what boards wrote over to another version of their image. Without --apply
it only says what would become of each change: kept, dropped (the new version
has the same) or a conflict (both changed it). Of a package the newer version
holds, with all its files.

With --apply a board that is down boots the new version next, with its writes;
one that is up does when it boots next, with what it has written by then. When
boots of the new version are not reported as good the board goes back to what
it had by itself, and the rest of the batch stays where it is. A version that
has no rubus-booted.service reports nothing: then no board goes back by itself.

With --first N the first N boards move, and the rest when those had a good
boot; --release does not wait for that. --status shows how far all that is.
When a batch stopped, --batch N --rest orders the boards that did not move once
more; so does the same order, said again: boards that are there, or on their
way, are passed over. --undo takes boards, or with --batch those of a batch,
back to what they had; what was undone already stays as it is.`,
		Example: `  rubus device rebase bench-01 lab@4
  rubus device rebase --group room1 lab --apply --first 2
  rubus device rebase --group room1 lab --apply --conflicts board
  rubus device rebase --status
  rubus device rebase --batch 3 --rest
  rubus device rebase --batch 3 --undo
  rubus device rebase bench-01 --undo`,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			if o.status || o.release || o.rest || o.batch != 0 {
				return onBatch(c.Context(), g, args, o)
			}
			boards, image, err := rebaseArgs(g, c, args, o)
			if err != nil {
				return err
			}
			if o.undo {
				return undoRebase(c.Context(), g, boards, o)
			}
			return rebaseBoards(c.Context(), g, boards, image, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.group, "group", "", "all boards of a `group` of devices.yaml")
	f.BoolVar(&o.all, "all", false, "all boards of devices.yaml")
	f.BoolVar(&o.apply, "apply", false, "do it")
	f.BoolVar(&o.undo, "undo", false, "bring back what the boards had before their last rebase")
	f.StringVar(&o.conflicts, "conflicts", "", "whose holds where both changed: `board|image`")
	f.IntVar(&o.first, "first", 0, "move the first `N` boards, and the rest when those had a good boot")
	f.BoolVar(&o.status, "status", false, "show batches of boards that move, or with --batch one of them")
	f.IntVar(&o.batch, "batch", 0, "the batch number `N` that --status, --undo, --release or --rest is about")
	f.BoolVar(&o.release, "release", false, "with --batch: move the rest without waiting for the first")
	f.BoolVar(&o.rest, "rest", false, "with --batch: order anew what a batch that stopped did not move")
	f.BoolVar(&o.files, "files", false, "list every file, those of packages and those dropped too")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.force, "force", false, "cut boards off that are up")
	_ = c.RegisterFlagCompletionFunc("conflicts", cobra.FixedCompletions([]string{"board", "image"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// rebaseArgs are the boards and, unless it is to be undone, the version.
func rebaseArgs(g *cli.Globals, c *cobra.Command, args []string, o rebaseFlags) (boards []device.Serial, ref imageref.Ref, err error) {
	if o.conflicts != "" && o.conflicts != "board" && o.conflicts != "image" {
		return nil, ref, ui.Usage(fmt.Errorf("--conflicts %q: want board or image", o.conflicts))
	}
	names := args
	if !o.undo {
		if len(args) == 0 {
			return nil, ref, ui.Usage(fmt.Errorf("%q needs an IMAGE to move to", c.CommandPath()))
		}
		names = args[:len(args)-1]
		if ref, err = imageref.Parse(args[len(args)-1]); err != nil {
			return nil, ref, ui.Usage(err)
		}
	}
	for _, n := range names {
		s, err := g.SerialOf(c.Context(), n)
		if err != nil {
			return nil, ref, err
		}
		if !slices.Contains(boards, s) { // by its name, and by its serial
			boards = append(boards, s)
		}
	}
	if o.group != "" || o.all {
		conf, err := g.LoadConfig()
		if err != nil {
			return nil, ref, err
		}
		for _, d := range conf.Devices() {
			if (o.all || slices.Contains(d.Groups, o.group)) && !slices.Contains(boards, d.Serial) {
				boards = append(boards, d.Serial)
			}
		}
	}
	if len(boards) == 0 {
		return nil, ref, ui.Usage(errors.New("no board is named"), "name boards by SERIAL, or say --group or --all")
	}
	return boards, ref, nil
}

// planRebase says what would become of one board's changes. It changes nothing.
func planRebase(ctx context.Context, g *cli.Globals, s *images.Store, serial device.Serial, to images.Version) (rebasing, error) {
	r := rebasing{Serial: serial, To: to.Ref}
	state, err := g.StateDir()
	if err != nil {
		return r, err
	}
	places, err := writes.Places(state, s, serial)
	if errors.Is(err, boot.ErrNotFound) {
		r.Skipped = "no writes"
		return r, nil
	}
	if err != nil {
		return r, err
	}
	p := places[0]
	r.From = p.Image
	var next []string
	same := len(to.Layers) == len(p.Base.Digests)
	for i, l := range to.Layers {
		next = append(next, s.LayerDir(l.Digest))
		same = same && l.Digest == p.Base.Digests[i]
	}
	switch {
	case same:
		r.Skipped = "on it already"
		return r, nil
	case p.Ephemeral:
		r.Skipped = "ephemeral"
		return r, nil
	}
	trees, done, err := carry.Trees(state, serial, p.Layers, p.UpperDir, next)
	if err != nil {
		return r, err
	}
	defer done()
	r.Plan, err = rebase.Make(ctx, trees)
	if err == nil && len(r.Items) == 0 {
		r.Plan, r.Skipped = nil, "no writes"
	}
	return r, err
}

func rebaseBoards(ctx context.Context, g *cli.Globals, boards []device.Serial, ref imageref.Ref, o rebaseFlags) error {
	s, err := g.ImageStore()
	if err != nil {
		return err
	}
	to, err := s.Resolve(ref)
	if err != nil {
		return cli.ImageError(err)
	}
	var all []rebasing
	var failed []error
	show := g.Progress()
	for i, serial := range boards {
		show.Update(progress.State{Phase: "comparing", Of: fmt.Sprintf("board %d of %d", i+1, len(boards))})
		r, err := planRebase(ctx, g, s, serial, to)
		if err != nil {
			// What one board made does not keep the others where they are. Its paths are as
			// long as it made them.
			failed = append(failed, fmt.Errorf("planning for board %s: %.500w", serial, err))
			r.Plan, r.Skipped = nil, "cannot be read"
		}
		all = append(all, r)
		if ctx.Err() != nil {
			break
		}
	}
	show.End()
	if ctx.Err() != nil || len(failed) == len(boards) {
		return errors.Join(failed...)
	}
	if !g.JSON {
		showPlans(g, all, o)
	}
	if o.apply {
		return errors.Join(append(failed, applyRebase(ctx, g, all, to.Ref, o))...)
	}
	return errors.Join(append(failed, g.Answer(all))...)
}

// undoRebase takes the last rebase of each board back.
func undoRebase(ctx context.Context, g *cli.Globals, boards []device.Serial, o rebaseFlags) error {
	d := g.Daemon()
	if err := g.Confirm(fmt.Sprintf("undo the last rebase of %s?", ui.Count(int64(len(boards)), "board")), o.yes); err != nil {
		return err
	}
	var errs []error
	undone := map[device.Serial]control.Move{}
	for _, serial := range boards {
		if o.force {
			if err := d.Stop(ctx, serial); err != nil {
				return err
			}
		}
		tell, end := g.Telling("copying")
		m, err := d.Undo(ctx, serial, tell)
		end()
		if control.IsKind(err, control.KindNotFound) && (o.all || o.group != "") {
			g.Notef("board %s has nothing to undo", serial)
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("board %s: %w", serial, err))
			continue
		}
		undone[serial] = m
		g.Notef("board %s: %s", serial, cli.MoveText(&m))
	}
	return errors.Join(append(errs, g.Answer(undone))...)
}
