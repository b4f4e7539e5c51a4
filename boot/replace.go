package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/overlay"
)

// Replace gives what a board has, its writes and its snapshots, to another board, which
// may never have been seen. Both must be down, and the other may have written nothing.
// Export ids are new: handles of the first board are refused. Done again it does nothing.
// The error wraps ErrNotFound when the first board has nothing.
func (f *Fleet) Replace(ctx context.Context, old, now device.Serial) error {
	if old == now {
		return fmt.Errorf("board %s cannot replace itself: %w", old, ErrRefused)
	}
	a, b := f.board(old), f.board(now)
	first, second := a, b
	if old.Compare(now) > 0 {
		first, second = b, a
	}
	for _, x := range []*board{first, second} {
		if err := x.work.Lock(ctx); err != nil {
			return err
		}
		defer x.work.Unlock()
		if err := x.usable(); err != nil {
			return err
		}
	}
	switch has, err := f.disk(old).Exists(); {
	case err != nil:
		return err
	case !has && b.record().Replaces == old:
		return nil // done before
	case !has:
		return fmt.Errorf("board %s: it has no state: %w", old, ErrNotFound)
	}
	for _, x := range []*board{a, b} {
		if !f.isDown(ctx, x) {
			return fmt.Errorf("board %s: %w, or nobody can tell", x.serial, ErrUp)
		}
	}
	if err := f.clearFor(ctx, b); err != nil {
		return err
	}
	if err := f.handOver(ctx, a, b); err != nil {
		return fmt.Errorf("replacing board %s by %s: %w", old, now, err)
	}
	f.log.Info("board replaced", "serial", old, "by", now)
	return nil
}

// clearFor makes room for another board's state: a board that wrote nothing loses its
// own. The caller holds work.
func (f *Fleet) clearFor(ctx context.Context, b *board) error {
	has, err := f.disk(b.serial).Exists()
	if err != nil || !has {
		return err
	}
	if _, err := f.disk(b.serial).Written(b.record()); !errors.Is(err, writes.ErrNothing) {
		return errors.Join(err, fmt.Errorf("board %s has writes of its own: reset it first, and remove its snapshots: %w", b.serial, ErrRefused))
	}
	// A board on trial has two: of what it wrote before no slot in use knows.
	for _, s := range b.slots() {
		if isEmpty, err := f.disk(b.serial).IsEmpty(s); err != nil || !isEmpty {
			return errors.Join(err, fmt.Errorf("board %s has writes of its own: undo its rebase, then reset it and remove its snapshots: %w", b.serial, ErrRefused))
		}
	}
	switch ids, err := f.uppers(b.serial).List(); {
	case err != nil:
		return err
	case slices.ContainsFunc(ids, func(id overlay.UpperID) bool { return writes.SlotOf(b.slots(), id) == nil }):
		return fmt.Errorf("board %s has uppers that its device.json does not name, in %s: move them away first: %w", b.serial, record.PathsOf(f.opt.State, b.serial).Dir(), ErrRefused)
	}
	snapshots, err := record.LoadSnapshots(f.opt.State, b.serial)
	if err != nil {
		return err
	}
	if len(snapshots) > 0 {
		return fmt.Errorf("board %s has snapshots of its own: remove them first: %w", b.serial, ErrRefused)
	}
	if err := f.setAside(ctx, b, b.record(), "", nil); err != nil {
		return err
	}
	return f.disk(b.serial).Discard(ctx)
}

// handOver moves the state of a to b, which has none.
func (f *Fleet) handOver(ctx context.Context, a, b *board) error {
	if err := f.cutOff(a); err != nil {
		return err
	}
	if err := f.dropUnkept(ctx, a); err != nil {
		return err
	}
	rec := a.record()
	rec.TakeOver(b.serial)
	rec.MAC, rec.Address = device.MAC{}, netip.Addr{}
	if rec.Move != nil {
		rec.Move.Batch = 0 // that was the other's
	}
	for i := range rec.Slots {
		rec.Slots[i].State, rec.Slots[i].Export = record.SlotParked, record.NewExportID()
	}
	if err := f.disk(a.serial).HandOver(&rec, func() { f.step(stepIntended) }); err != nil {
		return err
	}
	f.step(stepMoved)
	a.mu.Lock()
	a.rec = record.Record{Version: record.Version, Serial: a.serial}
	a.mu.Unlock()
	b.mu.Lock()
	b.rec, b.problem = rec, ""
	b.mu.Unlock()
	f.noteReplaced(&rec)
	return nil
}

// noteReplaced remembers whose place a board has taken.
func (f *Fleet) noteReplaced(rec *record.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.replaced, rec.Serial)
	for _, s := range rec.HasReplaced() {
		f.replaced[s] = rec.Serial
	}
}

// replacedBy is the board that took the place of one which no entry names; zero: none.
func (f *Fleet) replacedBy(s device.Serial) device.Serial {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replaced[s]
}

// dropUnkept removes the slots that hold nothing to be kept. The caller holds work; the
// board is cut off.
func (f *Fleet) dropUnkept(ctx context.Context, b *board) error {
	rec := b.record()
	var gone []record.Slot
	for _, s := range b.slots() {
		isEmpty, err := f.disk(b.serial).IsEmpty(s)
		if err != nil {
			return err
		}
		if s.Ephemeral || isEmpty {
			gone = append(gone, s)
			rec.Drop(s.N)
		}
	}
	if err := f.store(b, rec); err != nil {
		return err
	}
	for _, s := range gone {
		if err := f.uppers(b.serial).Remove(ctx, s.UpperID()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
