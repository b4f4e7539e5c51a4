package boot

import (
	"context"
	"errors"
	"fmt"

	"rubus/boot/carry"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// ErrConflict: the board and the new version changed the same files.
var ErrConflict = carry.ErrConflict

// Rebased is what a rebase did.
type Rebased struct {
	carry.Outcome
	// State is MoveTrial when the board boots the new version next, and MovePending when
	// that is worked out as its next boot begins.
	State record.MoveState
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
func (f *Fleet) newMove(b *board, o Order) (w carry.Target, m record.Move, err error) {
	if w, err = f.aim(b, o.To); err != nil {
		return w, m, err
	}
	if rec := b.record(); !rec.MakeRoom() {
		return w, m, fmt.Errorf("a move to %s is not over (%s): wait for its boot, or undo it first: %w", rec.Move.To, rec.Move.State, ErrRefused)
	}
	m = record.Move{
		Batch: o.Batch, From: w.Former.Image, To: w.Version.Ref, Layers: w.Base.Digests, Conflicts: o.Conflicts,
	}
	m.Enter(record.MovePending, "", f.opt.Now())
	return w, m, nil
}

// later notes a move for the board's next boot. It is planned first, for what there is to
// refuse and to tell. A board that boots meanwhile does not wait for that: the caller,
// who holds work, does not hold it for the plan.
func (f *Fleet) later(ctx context.Context, b *board, o Order, w carry.Target, m record.Move) (out Rebased, err error) {
	const tries = 5
	for range tries {
		b.work.Unlock()
		out.Outcome, err = f.carrier(b.serial).Look(ctx, w, m)
		b.work.Retake() // whatever became of ctx: the caller lets go of it
		if err != nil {
			return out, err
		}
		var now carry.Target
		if now, m, err = f.newMove(b, o); err != nil {
			return out, err
		}
		if now.Former.N == w.Former.N && now.Base.ID == w.Base.ID {
			m.Reports, out.State = out.Reports, record.MovePending
			rec := b.record()
			rec.MakeRoom()
			rec.Move = &m
			return out, f.store(b, rec)
		}
		w = now // it booted another root than was looked at
	}
	return out, fmt.Errorf("it boots another root whenever it is looked at: %w", ErrRefused)
}

// aim resolves where a move goes, and refuses one to where the board is.
func (f *Fleet) aim(b *board, to imageref.Ref) (carry.Target, error) {
	w, err := f.carrier(b.serial).Aim(b.record(), to)
	return w, onIt(err)
}

// onIt makes ErrRefused of a move to where the board is.
func onIt(err error) error {
	if errors.Is(err, record.ErrOnIt) {
		err = fmt.Errorf("%w: %w", err, ErrRefused)
	}
	return err
}

// carry makes the new upper of a move, and the record that has the board try it. With down
// the board is cut off; else the board may turn out to run on, with carry.ErrChanged. A board
// that mounts what it has meanwhile does not wait, with ErrBoots. The caller holds work.
func (f *Fleet) carry(ctx context.Context, b *board, m record.Move, down bool, progress func(upper.Size)) (Rebased, error) {
	rec := b.record()
	ctx, done := b.work.Yields(ctx, turn.Mount)
	c, err := f.carrier(b.serial).Over(ctx, &rec, &m, progress)
	if err != nil {
		return Rebased{Outcome: c.Outcome}, done(onIt(err))
	}
	rec.Move = &m
	return Rebased{c.Outcome, record.MoveTrial}, done(f.try(ctx, b, rec, c.Slot, c.Former.N, down))
}

// try has a board boot the new slot of its move next, and go back to the slot former.
func (f *Fleet) try(ctx context.Context, b *board, rec record.Record, s record.Slot, former int, down bool) error {
	rec.Slots = append(rec.Slots, s)
	rec.OfferMove(s.N, former, f.opt.Now())
	if former := rec.Slot(former); down && former.State == record.SlotCurrent {
		former.State = record.SlotParked
	}
	if err := f.store(b, rec); err != nil {
		return errors.Join(err, f.uppers(b.serial).Remove(context.WithoutCancel(ctx), s.UpperID()))
	}
	f.recorded(b, s)
	b.mu.Lock()
	b.looked = 0
	b.mu.Unlock()
	return nil
}

// carrier makes uppers of what a board has.
func (f *Fleet) carrier(serial device.Serial) carry.Board {
	return carry.Board{
		Board: f.disk(serial), Versions: f.opt.Store, Reserve: f.opt.Reserve, Now: f.opt.Now,
		Built: func() { f.step(stepBuilt) },
	}
}
