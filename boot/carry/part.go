package carry

import (
	"context"
	"slices"

	"rubus/boot/record"
	"rubus/images/rebase"
	"rubus/images/treediff"
	"rubus/images/upper"
	"rubus/overlay"
)

// Part looks at what a board changed at or below the paths in keep, to be put over another
// base.
func (b Board) Part(ctx context.Context, slot record.Slot, over overlay.Base, keep []string, do func(upper.Delta) error) error {
	spec := b.Spec(slot)
	trees, done, err := rebase.Open(spec.LayerDirs, spec.UpperDir, b.layerDirs(over))
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

// Bytes is what a copy of changes takes on the disk, holes left out.
func Bytes(changes []treediff.Change) (n int64) {
	for _, c := range changes {
		if c.New != nil && c.New.IsRegular() {
			n += min(c.New.Stat.Size, c.New.Stat.Blocks*512)
		}
	}
	return n
}
