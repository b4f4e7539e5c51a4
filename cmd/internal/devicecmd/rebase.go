package devicecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
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
	// Done is what was done, with --apply.
	Done *control.Rebased `json:"done,omitempty"`
	// Error is why it was not.
	Error string `json:"error,omitempty"`
}

type rebaseFlags struct {
	group                   string
	all, apply, undo, files bool
	yes, force              bool
	conflicts               string
	first                   int
}

func newRebaseCmd(g *cli.Globals) *cobra.Command {
	var o rebaseFlags
	c := &cobra.Command{
		Use:   "rebase SERIAL... IMAGE[@VERSION]",
		Short: "Carry what boards wrote over to another version",
		Long: `Carry what boards wrote over to another version of their image. Without --apply
it only says what would become of each change: kept, dropped (the new version
has the same) or a conflict (both changed it). Of a package the newer version
holds, with all its files.

With --apply a board boots the new version next, with its writes; what it had is
set aside as a snapshot for 30 days, and --undo brings it back. A board that is
up, or may be, is left alone; --force cuts it off first.`,
		Example: `  rubus device rebase bench-01 lab@4
  rubus device rebase --group room1 lab --apply --first 2
  rubus device rebase --group room1 lab --apply --conflicts board
  rubus device rebase bench-01 --undo`,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
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
	f.IntVar(&o.first, "first", 0, "apply to the first `N` boards only, to see them boot")
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
		boards = append(boards, s)
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
	places, err := boot.Places(state, s, serial)
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
	trees, done, err := boot.OpenTrees(p.Layers, p.UpperDir, next)
	if err != nil {
		return r, err
	}
	defer done()
	if trees.Given, err = boot.GivenIn(state, serial, trees.Board); err != nil {
		return r, err
	}
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
	for _, serial := range boards {
		r, err := planRebase(ctx, g, s, serial, to)
		if err != nil {
			return fmt.Errorf("planning for board %s: %w", serial, err)
		}
		all = append(all, r)
	}
	if !g.JSON {
		showPlans(g, all, o)
	}
	if o.apply {
		err = applyRebase(ctx, g, all, to.Ref, o)
	}
	if g.JSON {
		return errors.Join(g.PrintJSON(all), err)
	}
	return err
}

// applyRebase carries out what was planned, board after board; one that fails does not
// stop the others.
func applyRebase(ctx context.Context, g *cli.Globals, all []rebasing, to imageref.Ref, o rebaseFlags) error {
	var todo []*rebasing
	for i := range all {
		if all[i].Skipped == "" && (o.first == 0 || len(todo) < o.first) {
			todo = append(todo, &all[i])
		}
	}
	if len(todo) == 0 {
		g.Notef("there is nothing to do")
		return nil
	}
	if err := g.Confirm(fmt.Sprintf("move %s to %s?", ui.Count(int64(len(todo)), "board"), to), o.yes); err != nil {
		return err
	}
	d := g.Daemon()
	failed := 0
	for _, r := range todo {
		if o.force {
			if err := d.Stop(ctx, r.Serial); err != nil {
				return err
			}
		}
		tell, end := telling(g, "copying")
		done, err := d.Rebase(ctx, r.Serial, to, o.conflicts, tell)
		end()
		if err != nil {
			failed++
			r.Error = err.Error()
			ui.Report(g.Stderr, fmt.Errorf("board %s: %w", r.Serial, err))
			continue
		}
		r.Done = &done
		if done.State == "pending" {
			g.Notef("board %s moves to %s when it boots next", r.Serial, to)
		} else {
			g.Notef("board %s boots %s next, with %s of its own", r.Serial, to, ui.Count(int64(done.Kept), "change"))
		}
		if !done.Reports {
			g.Notef("board %s: warning: %s has no rubus-booted.service, so it will not go back by itself", r.Serial, to)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s were not moved", failed, ui.Count(int64(len(todo)), "board"))
	}
	return nil
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
		tell, end := telling(g, "copying")
		m, err := d.Undo(ctx, serial, tell)
		end()
		if err != nil {
			errs = append(errs, fmt.Errorf("board %s: %w", serial, err))
			continue
		}
		undone[serial] = m
		g.Notef("board %s: %s", serial, cli.MoveText(&m))
	}
	return errors.Join(append(errs, g.Answer(undone))...)
}
