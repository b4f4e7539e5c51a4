package boot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/layered"
	"rubus/images/rebase"
	"rubus/images/upper"
)

// RebaseNote begins the note of what a rebase has set aside.
const RebaseNote = "before a rebase to "

// ErrConflict: the board and the new version changed the same files.
var ErrConflict = errors.New("the board and the new version changed the same files")

// Conflicts says what becomes of what both changed.
type Conflicts string

// What to do about conflicts; "" refuses.
const (
	ConflictsBoard Conflicts = "board" // the board's holds
	ConflictsImage Conflicts = "image" // the new version's holds
)

// Rebased is what a rebase did.
type Rebased struct {
	From, To               imageref.Ref
	Kept, Dropped, Clashed int
}

// Rebase carries what a board wrote over to another version, which it boots next: a new
// upper is made and compared with what was planned, and what the board had is set aside
// as a snapshot. It is refused while the board is up or may be; with ErrConflict when
// both changed something and conflicts does not say which holds. It blocks while it
// copies.
func (f *Fleet) Rebase(ctx context.Context, serial device.Serial, ref imageref.Ref, conflicts Conflicts, progress func(upper.Size)) (Rebased, error) {
	b := f.known(serial)
	if b == nil {
		return Rebased{}, fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return Rebased{}, err
	}
	defer b.unlock()
	if err := f.mayReplace(ctx, b); err != nil {
		return Rebased{}, err
	}
	// The version may not go before the record names it.
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return Rebased{}, fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	out, err := f.rebase(ctx, b, ref, conflicts, progress)
	if err != nil {
		return Rebased{}, fmt.Errorf("rebasing board %s: %w", serial, err)
	}
	f.log.Info("board rebased", "serial", serial, "from", out.From, "to", out.To, "kept", out.Kept, "dropped", out.Dropped, "conflicts", out.Clashed)
	return out, nil
}

func (f *Fleet) rebase(ctx context.Context, b *board, ref imageref.Ref, conflicts Conflicts, progress func(upper.Size)) (out Rebased, err error) {
	slot, err := f.writtenSlot(b)
	if err != nil {
		return out, err
	}
	v, err := f.opt.Store.Resolve(ref)
	if err != nil {
		return out, err
	}
	base, err := f.baseOf(v)
	if err != nil {
		return out, err
	}
	out.From, out.To = slot.Image, v.Ref
	if base.ID == slot.Base.ID {
		return out, fmt.Errorf("it stands on %s already: %w", v.Ref, ErrRefused)
	}
	spec := f.spec(b.serial, slot)
	nextDirs := f.layerDirs(base.Digests)
	trees, done, err := OpenTrees(spec.LayerDirs, spec.UpperDir, nextDirs)
	if err != nil {
		return out, err
	}
	defer done()
	if trees.Given, err = GivenIn(f.opt.State, b.serial, trees.Board); err != nil {
		return out, err
	}
	plan, err := rebase.Make(ctx, trees)
	if err != nil {
		return out, err
	}
	out.Kept, out.Dropped, out.Clashed = plan.Count(rebase.Keep), plan.Count(rebase.Drop), plan.Count(rebase.Conflict)
	if out.Clashed > 0 && conflicts == "" {
		return out, fmt.Errorf("%d of them: %w", out.Clashed, ErrConflict)
	}
	boards := conflicts == ConflictsBoard
	next := Slot{Image: v.Ref, Base: base, Boot: v.Boot}
	return out, f.replaceWith(ctx, b, next, RebaseNote+v.Ref.String(), func(to string) error {
		_, err := upper.Build(ctx, to, upper.Delta{
			Base: trees.Next, Was: trees.Was, Tree: trees.Board, Changes: plan.Changes(boards), Content: plan.Content(),
		}, progress)
		if err != nil {
			return err
		}
		result, err := layered.OpenUpper(nextDirs, filepath.Dir(to))
		if err != nil {
			return err
		}
		defer result.Close()
		return plan.Check(ctx, result, boards)
	})
}

// OpenTrees opens the three trees of a rebase: the layers a board wrote over, with its
// upper, and those it is to move to.
func OpenTrees(was []string, upperDir string, next []string) (t rebase.Trees, done func(), err error) {
	var open []*layered.View
	done = func() {
		for _, v := range open {
			v.Close()
		}
	}
	for _, c := range []struct {
		v    **layered.View
		open func() (*layered.View, error)
	}{
		{&t.Was, func() (*layered.View, error) { return layered.Open(was) }},
		{&t.Board, func() (*layered.View, error) { return layered.OpenUpper(was, upperDir) }},
		{&t.Next, func() (*layered.View, error) { return layered.Open(next) }},
	} {
		if *c.v, err = c.open(); err != nil {
			done()
			return rebase.Trees{}, nil, err
		}
		open = append(open, *c.v)
	}
	return t, done, nil
}
