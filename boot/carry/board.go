package carry

import (
	"context"
	"fmt"
	"time"

	"rubus/boot/identity"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/rebase"
	"rubus/images/upper"
	"rubus/overlay"
)

// Versions is the image store.
type Versions interface {
	Resolve(ref imageref.Ref) (images.Version, error)
}

// Board is a board of whose writes uppers are made. Who calls holds it.
type Board struct {
	writes.Board
	Versions Versions
	// Reserve is the space in bytes that is left free on the state directory's file system.
	Reserve int64
	// Now is the clock.
	Now func() time.Time
	// Built, when not nil, is called when a new upper is on the disk.
	Built func()
}

// Fill makes the content of an upper, which is new and empty, in to.
type Fill func(ctx context.Context, to string) error

// Build makes the upper of a new slot, and counts it in rec, which does not name it yet. It
// blocks while it copies.
func (b Board) Build(ctx context.Context, rec *record.Record, s *record.Slot, fill Fill) error {
	if err := b.CountUppers(rec); err != nil {
		return err
	}
	rec.LastSlot++
	s.N, s.State, s.Export, s.Made = rec.LastSlot, record.SlotParked, record.NewExportID(), b.Now()
	_, err := b.Uppers().Build(ctx, s.Base, s.N, func(to string) error {
		if err := fill(ctx, to); err != nil {
			return err
		}
		return writes.Unrecorded(to)
	})
	if err == nil && b.Built != nil {
		b.Built()
	}
	return err
}

// Copy is a Fill that copies another upper over the same base, which nobody writes to.
func (b Board) Copy(base overlay.Base, from string, progress func(upper.Size)) Fill {
	dirs := b.layerDirs(base)
	return func(ctx context.Context, to string) error {
		_, err := upper.Copy(ctx, dirs, from, to, progress)
		return err
	}
}

// Fits says whether so many bytes leave the reserve free. Where copies share their blocks (xfs,
// btrfs) they take next to nothing.
func (b Board) Fits(bytes int64) error { return writes.Fits(b.State, b.Reserve, bytes, true) }

func (b Board) layerDirs(base overlay.Base) []string {
	return writes.LayerDirs(b.Layers, base.Digests)
}

// BaseOf is the base of a version, as its layers lie on the disk.
func BaseOf(l writes.Layers, v images.Version) (overlay.Base, error) {
	digests := make([]string, len(v.Layers))
	for i, layer := range v.Layers {
		digests[i] = layer.Digest
	}
	base, err := overlay.BaseOf(digests, writes.LayerDirs(l, digests))
	if err != nil {
		return overlay.Base{}, fmt.Errorf("reading the layers of %q: %w", v.Ref, err)
	}
	return base, nil
}

// Trees opens what a move of a board is worked out from: the layers it stood on, its upper and
// the layers it is to stand on; done closes it. What it was given of its identity is put there
// anew at each boot.
func Trees(state string, serial device.Serial, was []string, upperDir string, next []string) (trees rebase.Trees, done func(), err error) {
	trees, done, err = rebase.Open(was, upperDir, next)
	if err != nil {
		return trees, nil, err
	}
	g, err := identity.Store{Dir: identity.Dir(record.PathsOf(state, serial).Dir())}.Given()
	if err != nil {
		done()
		return trees, nil, err
	}
	trees.Given = g.Owned(trees.Board.ReadFile)
	return trees, done, nil
}
