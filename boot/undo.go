package boot

import (
	"context"
	"errors"
	"fmt"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/upper"
)

// Undo takes a board's last rebase back: one that is to come is dropped, and of one that was
// made the board boots what it had before, at once when it is down, else from its next boot
// on. What it wrote since is set aside as a snapshot. Done again it does nothing. The error
// wraps ErrNotFound when there is nothing to undo. It may block while it copies.
func (f *Fleet) Undo(ctx context.Context, serial device.Serial, progress func(upper.Size)) (record.MoveState, error) {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return "", err
	}
	defer b.work.Unlock()
	if err := b.usable(); err != nil {
		return "", err
	}
	if err := f.undo(ctx, b, progress); err != nil {
		return "", fmt.Errorf("undoing the rebase of board %s: %w", serial, err)
	}
	m := b.record().Move
	f.log.Info("rebase undone", "serial", serial, "to", m.To, "state", m.State)
	return m.State, nil
}

func (f *Fleet) undo(ctx context.Context, b *board, progress func(upper.Size)) error {
	rec := b.record()
	m := rec.Move
	switch {
	case m == nil:
		return fmt.Errorf("it was not moved: %w", ErrNotFound)
	case m.State == record.MovePending:
		rec.TakeBack(record.MoveUndone, "", f.opt.Now())
		return f.store(b, rec)
	case m.IsOver() && m.State != record.MoveGood && m.State != record.MoveMade:
		return nil
	case m.Former == 0 && m.Snapshot == 0:
		return fmt.Errorf("what it had before is not kept any more: %w", ErrNotFound)
	case rec.IsOffer():
		rec.TakeBack(record.MoveUndone, "", f.opt.Now())
		rec.Leave()
		return errors.Join(f.store(b, rec), f.keepAllAside(ctx, b))
	case !f.isDown(ctx, b):
		if m.State != record.MoveUndoing {
			rec.Move.Enter(record.MoveUndoing, "", f.opt.Now())
		}
		return f.store(b, rec)
	}
	if err := f.cutOff(b); err != nil {
		return err
	}
	if err := f.bringBackWith(ctx, b, progress); err != nil {
		return err
	}
	return f.keepAllAside(ctx, b)
}

// bringBack is what a move that is being undone asks for when a boot begins.
func (f *Fleet) bringBack(ctx context.Context, b *board) error {
	if err := f.bringBackWith(ctx, b, nil); err != nil {
		return err
	}
	m := b.record().Move
	f.log.Info("rebase undone", "serial", b.serial, "to", m.To, "state", m.State)
	f.moved(b, fmt.Sprintf("the rebase to %s is undone: the board boots %s, as before", m.To, m.From))
	return nil
}

// bringBackWith has the board boot what it had before its move: that is a slot still, or a
// snapshot of which a new slot is made. The caller holds work.
func (f *Fleet) bringBackWith(ctx context.Context, b *board, progress func(upper.Size)) error {
	rec := b.record()
	if rec.Move.Former != 0 {
		rec.TakeBack(record.MoveUndone, "", f.opt.Now())
		rec.Leave()
		return f.store(b, rec)
	}
	n := rec.Move.Snapshot
	s, from, err := f.disk(b.serial).OpenSnapshot(n)
	if err != nil {
		return err
	}
	if err := f.fits(s.Bytes); err != nil {
		return err
	}
	next := record.Slot{Image: s.Image, Base: s.Base, Boot: s.Boot}
	if err := f.build(ctx, b, &rec, &next, f.carrier(b.serial).Copy(s.Base, from, progress)); err != nil {
		return err
	}
	rec.Slots = append(rec.Slots, next)
	rec.Move.Former, rec.Move.Snapshot = next.N, 0
	rec.TakeBack(record.MoveUndone, "", f.opt.Now())
	rec.Leave()
	if err := f.store(b, rec); err != nil {
		return errors.Join(err, f.uppers(b.serial).Remove(context.WithoutCancel(ctx), next.UpperID()))
	}
	f.recorded(b, next)
	return nil
}
