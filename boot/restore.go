package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"rubus/boot/carry"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/upper"
	"rubus/overlay"
)

// Restore makes a snapshot the board's root from its next boot on: as a new upper
// with an export of its own, so that handles of the former are refused. What
// the board has now is set aside as a snapshot. It is refused while the board is up or may be. It
// blocks while it copies.
func (f *Fleet) Restore(ctx context.Context, serial device.Serial, n int, progress func(upper.Size)) error {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return err
	}
	defer b.work.Unlock()
	if err := f.mayReplace(ctx, b); err != nil {
		return err
	}
	s, from, err := f.disk(serial).OpenSnapshot(n)
	if err != nil {
		return fmt.Errorf("snapshot %d of board %s: %w", n, serial, err)
	}
	if err := f.fits(s.Bytes); err != nil {
		return fmt.Errorf("restoring snapshot %d of board %s: %w", n, serial, err)
	}
	next := record.Slot{Image: s.Image, Base: s.Base, Boot: s.Boot}
	err = f.replaceWith(ctx, b, next, fmt.Sprintf("before snapshot %d was restored", n), f.carrier(serial).Copy(s.Base, from, progress))
	if err != nil {
		return fmt.Errorf("restoring snapshot %d of board %s: %w", n, serial, err)
	}
	f.log.Info("snapshot restored", "serial", serial, "snapshot", n)
	return nil
}

// mayReplace says whether the writes of a board may be exchanged now. The caller holds work.
func (f *Fleet) mayReplace(ctx context.Context, b *board) error {
	if err := f.mayCarry(b); err != nil {
		return err
	}
	if !f.isDown(ctx, b) {
		return fmt.Errorf("board %s: %w, or nobody can tell", b.serial, ErrUp)
	}
	return nil
}

// mayCarry says whether a board has writes of its own that are kept.
func (f *Fleet) mayCarry(b *board) error {
	if err := b.usable(); err != nil {
		return err
	}
	if dev := f.wanted(b.serial); dev != nil && dev.Ephemeral {
		return fmt.Errorf("board %s is ephemeral: each of its boots starts from its image: %w", b.serial, ErrRefused)
	}
	return nil
}

// replaceWith makes a new upper, filled by fill, the one the board boots with, and
// sets aside what it had. The caller holds work and has proved the board down.
func (f *Fleet) replaceWith(ctx context.Context, b *board, s record.Slot, note string, fill carry.Fill) error {
	rec := b.record()
	if err := f.build(ctx, b, &rec, &s, fill); err != nil {
		return err
	}
	if err := f.setAside(ctx, b, rec, note, &s); err != nil {
		return err
	}
	if err := b.boots().Forget(); err != nil {
		f.log.Warn("the boot files that were kept of a board's former root stay", "serial", b.serial, "err", err)
	}
	return nil
}

// build makes the upper of a new slot; see carry.Board. A board that mounts what it has
// meanwhile does not wait: ErrBoots.
func (f *Fleet) build(ctx context.Context, b *board, rec *record.Record, s *record.Slot, fill carry.Fill) error {
	ctx, done := b.work.Yields(ctx, turn.Mount)
	return done(f.carrier(b.serial).Build(ctx, rec, s, fill))
}

// recorded takes note that the record on disk names a new slot. If it cannot, sweep does.
func (f *Fleet) recorded(b *board, s record.Slot) {
	f.step(stepRecorded)
	f.disk(b.serial).Recorded(s.UpperID())
}

// setAside makes snapshots of a board's uppers, which then has the slot next alone, or
// none. Each upper is marked first, then the record is written, then they are moved: a
// crash before the record leaves all as it was, one after it is finished by sweep.
func (f *Fleet) setAside(ctx context.Context, b *board, rec record.Record, note string, next *record.Slot) error {
	if err := f.cutOff(b); err != nil {
		return err
	}
	rec.Up = false
	ids, err := f.uppers(b.serial).List()
	if err != nil {
		return err
	}
	rec.LastSlot = max(rec.LastSlot, b.record().LastSlot)
	var keep, named []overlay.UpperID
	for _, id := range ids {
		rec.LastSlot = max(rec.LastSlot, id.N())
		s := writes.SlotOf(rec.Slots, id)
		if s == nil {
			continue
		}
		named = append(named, id)
		if s.Ephemeral {
			continue
		}
		if isEmpty, err := f.disk(b.serial).IsEmpty(*s); err != nil || isEmpty {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := f.mark(ctx, b, *s, note); err != nil {
			return err
		}
		keep = append(keep, id)
	}
	f.step(stepIntended)
	rec.Slots, rec.Move = nil, nil
	if next != nil {
		rec.Slots = []record.Slot{*next}
	}
	if err := f.store(b, rec); err != nil {
		return err
	}
	if next != nil {
		f.recorded(b, *next)
	} else {
		f.step(stepRecorded)
	}
	var errs []error
	for _, id := range ids {
		switch {
		case slices.Contains(keep, id):
			errs = append(errs, f.disk(b.serial).KeepMarked(id))
			f.step(stepMoved)
		case next != nil && id == next.UpperID():
		case !slices.Contains(named, id):
			// Of another time of the record: nobody said that it may go.
			f.log.Warn("an upper that device.json does not name is left alone", "serial", b.serial, "upper", f.uppers(b.serial).Path(id))
		default:
			if err := f.uppers(b.serial).Remove(ctx, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// mark marks the upper of a slot to become a snapshot, which goes after Options.KeepAside.
func (f *Fleet) mark(ctx context.Context, b *board, s record.Slot, note string) (int, error) {
	now := f.opt.Now()
	return f.disk(b.serial).Mark(ctx, s, note, now, now.Add(f.opt.KeepAside))
}
