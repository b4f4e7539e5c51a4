package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/images/rebase"
	"rubus/images/treediff"
	"rubus/images/upper"
)

// resetNote is the note of what a reset has set aside.
const resetNote = "before a reset"

// startAnew sets aside what a board wrote. What it changed at or below the paths to keep
// becomes a new upper over the image as it is tagged now. The caller holds work, and
// the board is down or may be cut off.
func (f *Fleet) startAnew(ctx context.Context, b *board, o ResetOptions) error {
	slot, err := f.disk(b.serial).Written(b.record())
	if len(o.Keep) == 0 || errors.Is(err, writes.ErrNothing) {
		return f.setAside(ctx, b, b.record(), resetNote, nil)
	}
	if err != nil {
		return err
	}
	dev := f.wanted(b.serial)
	switch {
	case dev == nil:
		return fmt.Errorf("nothing can be kept: devices.yaml gives the board no image: %w", ErrRefused)
	case dev.Ephemeral:
		return fmt.Errorf("nothing can be kept: the board is ephemeral: %w", ErrRefused)
	}
	// The version may not go before the record names it.
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	w, err := f.want(dev)
	if err != nil {
		return err
	}
	// Looked at before the board is cut off, for what there is to refuse, and then once more.
	err = f.keeping(ctx, b, slot, w, o.Keep, func(d upper.Delta) error { return f.fits(bytesOf(d.Changes)) })
	if err != nil {
		return err
	}
	if err := f.cutOff(b); err != nil {
		return err
	}
	next := record.Slot{Image: w.Image, Base: w.Base, Boot: w.Boot}
	return f.keeping(ctx, b, slot, w, o.Keep, func(d upper.Delta) error {
		return f.replaceWith(ctx, b, next, resetNote, func(ctx context.Context, to string) error {
			_, err := upper.Build(ctx, to, d, o.Progress)
			return err
		})
	})
}

// keeping looks at what a board changed at or below the paths in keep, to be put over another
// version.
func (f *Fleet) keeping(ctx context.Context, b *board, slot record.Slot, w record.Want, keep []string, do func(upper.Delta) error) error {
	spec := f.spec(b.serial, slot)
	trees, done, err := rebase.Open(spec.LayerDirs, spec.UpperDir, f.layerDirs(w.Base.Digests))
	if err != nil {
		return err
	}
	defer done()
	changes, err := treediff.Plain(ctx, trees.Was, trees.Board)
	if err != nil {
		return err
	}
	changes = slices.DeleteFunc(changes, func(c treediff.Change) bool { return !treediff.IsBelow(c.Path, keep) })
	return do(upper.Delta{Base: trees.Next, Was: trees.Was, Tree: trees.Board, Changes: changes})
}

// bytesOf is what a copy of changes takes on the disk, holes left out.
func bytesOf(changes []treediff.Change) (n int64) {
	for _, c := range changes {
		if c.New != nil && c.New.IsRegular() {
			n += min(c.New.Stat.Size, c.New.Stat.Blocks*512)
		}
	}
	return n
}
