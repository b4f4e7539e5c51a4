package carry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rubus/boot/bootset"
	"rubus/boot/record"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/rebase"
	"rubus/images/upper"
	"rubus/overlay"
)

var (
	// ErrConflict: the board and the new version changed the same files.
	ErrConflict = errors.New("the board and the new version changed the same files")
	// ErrChanged: the board wrote while its writes were carried over.
	ErrChanged = errors.New("the board wrote meanwhile: it is not booting")
)

// Target is what a move is from and to.
type Target struct {
	Former  record.Slot
	Version images.Version
	Base    overlay.Base
}

// Outcome is what became, or would become, of a board's changes.
type Outcome struct {
	From, To               imageref.Ref
	Kept, Dropped, Clashed int
	// Reports says that the new root can report a boot: without that nobody can tell
	// whether it is good.
	Reports bool
}

// Aim resolves where a move goes. The error wraps record.ErrOnIt when that is where the board
// is, and writes.ErrNothing when it wrote nothing.
func (b Board) Aim(rec record.Record, to imageref.Ref) (t Target, err error) {
	if t.Former, err = b.Written(rec); err != nil {
		return t, err
	}
	if t.Version, err = b.Versions.Resolve(to); err != nil {
		return t, err
	}
	if t.Base, err = BaseOf(b.Layers, t.Version); err != nil {
		return t, err
	}
	if t.Base.ID == t.Former.Base.ID {
		return t, fmt.Errorf("%s: %w", t.Version.Ref, record.ErrOnIt)
	}
	return t, nil
}

// Look plans a move of a board that may run. The error wraps ErrConflict when both changed
// something and the move does not say which holds.
func (b Board) Look(ctx context.Context, t Target, m record.Move) (Outcome, error) {
	trees, done, err := b.trees(t)
	if err != nil {
		return Outcome{}, err
	}
	defer done()
	out, _, err := plan(ctx, trees, m)
	return out, err
}

// Carried is a slot that was made of another.
type Carried struct {
	// Slot is the new one, Former that whose writes it has.
	Slot, Former record.Slot
	Outcome
}

// Over makes the upper of a move: what the board wrote, over the version that m says. It is
// counted in rec; m has what it is of then, when the board wrote last, and whether the new root
// reports boots. The error wraps ErrChanged when the board wrote meanwhile: then nothing is
// left of it. It blocks while it copies.
func (b Board) Over(ctx context.Context, rec *record.Record, m *record.Move, progress func(upper.Size)) (c Carried, err error) {
	t, err := b.Aim(*rec, m.To)
	if err != nil {
		return c, err
	}
	c.Former, m.From = t.Former, t.Former.Image
	if m.Written, err = b.Uppers().Changed(ctx, t.Former.UpperID()); err != nil {
		return c, err
	}
	if err := nextTick(ctx); err != nil {
		return c, err
	}
	trees, done, err := b.trees(t)
	if err != nil {
		return c, err
	}
	defer done()
	var p *rebase.Plan
	if c.Outcome, p, err = plan(ctx, trees, *m); err != nil {
		return c, b.orChanged(ctx, t, m, err)
	}
	m.Reports = c.Reports
	used, err := b.Uppers().Usage(ctx, t.Former.UpperID())
	if err != nil {
		return c, err
	}
	if err := b.Fits(used.Bytes); err != nil {
		return c, err
	}
	c.Slot = record.Slot{Image: t.Version.Ref, Base: t.Base, Boot: t.Version.Boot}
	err = b.Build(ctx, rec, &c.Slot, func(ctx context.Context, to string) error {
		return p.Build(ctx, to, b.layerDirs(t.Base), trees, m.Conflicts == record.ConflictsBoard, progress)
	})
	if err != nil {
		return c, b.orChanged(ctx, t, m, err)
	}
	if err := b.orChanged(ctx, t, m, nil); err != nil {
		return c, errors.Join(err, b.Uppers().Remove(context.WithoutCancel(ctx), c.Slot.UpperID()))
	}
	return c, nil
}

func (b Board) trees(t Target) (rebase.Trees, func(), error) {
	return Trees(b.State, b.Serial, b.layerDirs(t.Former.Base), b.Uppers().Path(t.Former.UpperID()), b.layerDirs(t.Base))
}

// plan plans a move, and refuses conflicts that nobody decided.
func plan(ctx context.Context, trees rebase.Trees, m record.Move) (out Outcome, p *rebase.Plan, err error) {
	out = Outcome{From: m.From, To: m.To}
	if p, err = rebase.Make(ctx, trees); err != nil {
		return out, nil, err
	}
	out.Kept, out.Dropped, out.Clashed = p.Count(rebase.Keep), p.Count(rebase.Drop), p.Count(rebase.Conflict)
	if out.Clashed > 0 && m.Conflicts == "" {
		return out, nil, fmt.Errorf("%d of them: %w", out.Clashed, ErrConflict)
	}
	out.Reports = p.WillHave(trees, bootset.BootedUnit)
	return out, p, nil
}

// nextTick waits until what is changed from now on has a later time than what was before: file
// systems take it from a clock that goes on 100 times a second or oftener.
func nextTick(ctx context.Context) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// orChanged is err, or ErrChanged when the board wrote to what it had since the move began:
// then err may come of that.
func (b Board) orChanged(ctx context.Context, t Target, m *record.Move, err error) error {
	newest, lookErr := b.Uppers().Changed(ctx, t.Former.UpperID())
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case newest.After(m.Written):
		return ErrChanged
	}
	return err
}
