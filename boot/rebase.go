package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rubus/boot/bootset"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/rebase"
	"rubus/images/upper"
	"rubus/overlay"
)

// ErrConflict: the board and the new version changed the same files.
var ErrConflict = errors.New("the board and the new version changed the same files")

// Rebased is what a rebase did.
type Rebased struct {
	From, To               imageref.Ref
	Kept, Dropped, Clashed int
	// State is MoveTrial when the board boots the new version next, and MovePending when
	// that is worked out as its next boot begins. Reports says that the new root can
	// report a boot: without that nobody can tell whether it is good.
	State   record.MoveState
	Reports bool
}

// Order is what a rebase is asked to do.
type Order struct {
	To        imageref.Ref
	Conflicts record.Conflicts
	// Batch numbers the batch that it is part of; 0: none.
	Batch int
	// Later leaves it to the board's next boot also when the board is down.
	Later bool
}

// Rebase moves a board to another version with what it wrote: a new upper is made over
// that version and compared with what was planned, and the board boots it next. While
// the board is up or may be, that is done when its next boot begins. What it had stays
// until a boot of the new version was reported as good, and is brought back when
// Options.FallbackAfter boots failed; then it is set aside as a snapshot. It is refused with ErrConflict
// when both changed something and the order does not say which holds. It blocks while it
// copies.
func (f *Fleet) Rebase(ctx context.Context, serial device.Serial, o Order, progress func(upper.Size)) (Rebased, error) {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return Rebased{}, err
	}
	defer b.work.Unlock()
	if err := f.mayCarry(b); err != nil {
		return Rebased{}, err
	}
	now := !o.Later && f.isDown(ctx, b)
	out, err := f.order(ctx, b, o, now, progress)
	if err != nil {
		return Rebased{}, fmt.Errorf("rebasing board %s: %w", serial, err)
	}
	f.log.Info("board to be moved", "serial", serial, "from", out.From, "to", out.To, "state", out.State, "kept", out.Kept, "dropped", out.Dropped, "conflicts", out.Clashed)
	return out, nil
}

// order makes the move, or notes it for the board's next boot. The caller holds work.
func (f *Fleet) order(ctx context.Context, b *board, o Order, now bool, progress func(upper.Size)) (Rebased, error) {
	// The version may not go before the record names it.
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return Rebased{}, fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	w, m, err := f.newMove(b, o)
	if err != nil {
		return Rebased{}, err
	}
	if !now {
		return f.later(ctx, b, o, w, m)
	}
	rec := b.record()
	rec.MakeRoom()
	if err := errors.Join(f.store(b, rec), f.cutOff(b)); err != nil {
		return Rebased{}, err
	}
	out, err := f.carry(ctx, b, m, true, progress)
	if errors.Is(err, ErrBoots) { // on what it had: the next boot is to try it
		rec := b.record()
		rec.Move, out.State = &m, record.MovePending
		return out, f.store(b, rec)
	}
	return out, err
}

// newMove is the move that an order asks for, if the board's last one is over.
func (f *Fleet) newMove(b *board, o Order) (w target, m record.Move, err error) {
	if w, err = f.aim(b, o.To); err != nil {
		return w, m, err
	}
	if rec := b.record(); !rec.MakeRoom() {
		return w, m, fmt.Errorf("a move to %s is not over (%s): wait for its boot, or undo it first: %w", rec.Move.To, rec.Move.State, ErrRefused)
	}
	m = record.Move{
		Batch: o.Batch, From: w.former.Image, To: w.version.Ref, Layers: w.base.Digests, Conflicts: o.Conflicts,
	}
	m.Enter(record.MovePending, "", f.opt.Now())
	return w, m, nil
}

// later notes a move for the board's next boot. It is planned first, for what there is to
// refuse and to tell. A board that boots meanwhile does not wait for that: the caller,
// who holds work, does not hold it for the plan.
func (f *Fleet) later(ctx context.Context, b *board, o Order, w target, m record.Move) (out Rebased, err error) {
	const tries = 5
	for range tries {
		b.work.Unlock()
		out, err = f.look(ctx, b, w, m)
		b.work.Retake() // whatever became of ctx: the caller lets go of it
		if err != nil {
			return out, err
		}
		var now target
		if now, m, err = f.newMove(b, o); err != nil {
			return out, err
		}
		if now.former.N == w.former.N && now.base.ID == w.base.ID {
			m.Reports = out.Reports
			rec := b.record()
			rec.MakeRoom()
			rec.Move = &m
			return out, f.store(b, rec)
		}
		w = now // it booted another root than was looked at
	}
	return out, fmt.Errorf("it boots another root whenever it is looked at: %w", ErrRefused)
}

// look plans a move of a board that may run.
func (f *Fleet) look(ctx context.Context, b *board, w target, m record.Move) (Rebased, error) {
	trees, done, err := f.treesOf(b, w)
	if err != nil {
		return Rebased{}, err
	}
	defer done()
	out, plan, err := planMove(ctx, trees, m)
	if err != nil {
		return out, err
	}
	out.State, out.Reports = record.MovePending, plan.WillHave(trees, bootset.BootedUnit)
	return out, nil
}

// target is what a move is from and to.
type target struct {
	former  record.Slot
	version images.Version
	base    overlay.Base
}

// aim resolves where a move goes, and refuses one to where the board is.
func (f *Fleet) aim(b *board, to imageref.Ref) (w target, err error) {
	if w.former, err = f.disk(b.serial).Written(b.record()); err != nil {
		return w, err
	}
	if w.version, err = f.opt.Store.Resolve(to); err != nil {
		return w, err
	}
	if w.base, err = f.baseOf(w.version); err != nil {
		return w, err
	}
	if w.base.ID == w.former.Base.ID {
		return w, fmt.Errorf("%s: %w: %w", w.version.Ref, record.ErrOnIt, ErrRefused)
	}
	return w, nil
}

// treesOf opens what a move is worked out from; done closes it.
func (f *Fleet) treesOf(b *board, w target) (trees rebase.Trees, done func(), err error) {
	trees, done, err = rebase.Open(f.layerDirs(w.former.Base.Digests), f.uppers(b.serial).Path(w.former.UpperID()), f.layerDirs(w.base.Digests))
	if err != nil {
		return trees, nil, err
	}
	if trees.Given, err = GivenIn(f.opt.State, b.serial, trees.Board); err != nil {
		done()
	}
	return trees, done, err
}

// planMove plans a move, and refuses conflicts that nobody decided.
func planMove(ctx context.Context, trees rebase.Trees, m record.Move) (out Rebased, plan *rebase.Plan, err error) {
	out = Rebased{From: m.From, To: m.To}
	if plan, err = rebase.Make(ctx, trees); err != nil {
		return out, nil, err
	}
	out.Kept, out.Dropped, out.Clashed = plan.Count(rebase.Keep), plan.Count(rebase.Drop), plan.Count(rebase.Conflict)
	if out.Clashed > 0 && m.Conflicts == "" {
		return out, nil, fmt.Errorf("%d of them: %w", out.Clashed, ErrConflict)
	}
	return out, plan, nil
}

// carry makes the new upper of a move, and the record that has the board try it. With down
// the board is cut off; else the board may turn out to run on, with errChanged. A board that
// mounts what it has meanwhile does not wait, with ErrBoots. The caller holds work.
func (f *Fleet) carry(ctx context.Context, b *board, m record.Move, down bool, progress func(upper.Size)) (Rebased, error) {
	ctx, done := b.work.Yields(ctx, turn.Mount)
	out, err := f.carryOver(ctx, b, m, down, progress)
	return out, done(err)
}

func (f *Fleet) carryOver(ctx context.Context, b *board, m record.Move, down bool, progress func(upper.Size)) (Rebased, error) {
	w, err := f.aim(b, m.To)
	if err != nil {
		return Rebased{}, err
	}
	m.From = w.former.Image
	if m.Written, err = f.uppers(b.serial).Changed(ctx, w.former.UpperID()); err != nil {
		return Rebased{}, err
	}
	if err := nextTick(ctx); err != nil {
		return Rebased{}, err
	}
	trees, done, err := f.treesOf(b, w)
	if err != nil {
		return Rebased{}, err
	}
	defer done()
	out, plan, err := planMove(ctx, trees, m)
	if err != nil {
		return out, f.orChanged(ctx, b, w.former, m, err)
	}
	m.Reports = plan.WillHave(trees, bootset.BootedUnit)
	out.Reports = m.Reports
	used, err := f.uppers(b.serial).Usage(ctx, w.former.UpperID())
	if err != nil {
		return out, err
	}
	if err := f.fits(used.Bytes); err != nil {
		return out, err
	}
	rec := b.record()
	s := record.Slot{Image: w.version.Ref, Base: w.base, Boot: w.version.Boot}
	if err := f.build(ctx, b, &rec, &s, func(ctx context.Context, to string) error {
		return plan.Build(ctx, to, f.layerDirs(w.base.Digests), trees, m.Conflicts == record.ConflictsBoard, progress)
	}); err != nil {
		return out, f.orChanged(ctx, b, w.former, m, err)
	}
	if err := f.orChanged(ctx, b, w.former, m, nil); err != nil {
		return out, errors.Join(err, f.uppers(b.serial).Remove(context.WithoutCancel(ctx), s.UpperID()))
	}
	rec.Move = &m
	rec.Slots = append(rec.Slots, s)
	rec.OfferMove(s.N, w.former.N, f.opt.Now())
	if former := rec.Slot(w.former.N); down && former.State == record.SlotCurrent {
		former.State = record.SlotParked
	}
	if err := f.store(b, rec); err != nil {
		return out, errors.Join(err, f.uppers(b.serial).Remove(context.WithoutCancel(ctx), s.UpperID()))
	}
	f.recorded(b, s)
	b.mu.Lock()
	b.looked = 0
	b.mu.Unlock()
	out.State = record.MoveTrial
	return out, nil
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

// orChanged is err, or errChanged when the board wrote to what it had since the move began:
// then err may come of that.
func (f *Fleet) orChanged(ctx context.Context, b *board, former record.Slot, m record.Move, err error) error {
	newest, lookErr := f.uppers(b.serial).Changed(ctx, former.UpperID())
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case newest.After(m.Written):
		return errChanged
	}
	return err
}
