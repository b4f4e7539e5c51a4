package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/images/upper"
	"rubus/nfsexport"
)

// Steps of a change of a board's state, for tests of crashes.
const (
	stepCopied   = "copied"   // all is on the disk, under a name that is swept
	stepBuilt    = "built"    // a new upper is there, and no record names it
	stepIntended = "intended" // what will be set aside is marked
	stepRecorded = "recorded" // the record is written
	stepMoved    = "moved"    // one upper was set aside, or a snapshot that goes
)

func (f *Fleet) step(name string) {
	if f.opt.Step != nil {
		f.opt.Step(name)
	}
}

// Snapshots lists a board's snapshots, the oldest first.
func (f *Fleet) Snapshots(serial device.Serial) ([]record.Snapshot, error) {
	return record.LoadSnapshots(f.opt.State, serial)
}

// Snapshot copies what a board wrote, as it is now. The writes of a board that runs
// are held meanwhile, without an error; the copy is what a power cut now would
// leave. It blocks while it copies. A board that begins to boot, or mounts its root, does not
// wait for that: the copy is given up, with ErrBoots.
func (f *Fleet) Snapshot(ctx context.Context, serial device.Serial, note string, progress func(upper.Size)) (record.Snapshot, error) {
	return f.SnapshotFor(ctx, serial, note, 0, progress)
}

// SnapshotFor is Snapshot for a time, after which it is removed; 0: it stays.
func (f *Fleet) SnapshotFor(ctx context.Context, serial device.Serial, note string, keep time.Duration, progress func(upper.Size)) (record.Snapshot, error) {
	b, err := f.find(serial)
	if err != nil {
		return record.Snapshot{}, err
	}
	s, err := f.snapshotFor(ctx, b, note, keep, progress)
	if err == nil || s.N == 0 {
		return s, err
	}
	// The board does not wait for what is to be removed, either.
	if clean := f.sweepSnapshots(context.WithoutCancel(ctx), b); clean != nil {
		f.log.Warn("what is left of a copy still takes space", "serial", serial, "err", clean)
	}
	return record.Snapshot{}, err
}

// snapshotFor is SnapshotFor; a snapshot with a number and an error may be half there.
func (f *Fleet) snapshotFor(ctx context.Context, b *board, note string, keep time.Duration, progress func(upper.Size)) (record.Snapshot, error) {
	serial := b.serial
	if err := b.work.Lock(ctx); err != nil {
		return record.Snapshot{}, err
	}
	defer b.work.Unlock()
	if err := b.usable(); err != nil {
		return record.Snapshot{}, err
	}
	slot, err := f.disk(b.serial).Written(b.record())
	if err != nil {
		return record.Snapshot{}, err
	}
	ctx, done := b.work.Yields(ctx, turn.Files)
	u, err := f.uppers(serial).Usage(ctx, slot.UpperID())
	if err != nil {
		return record.Snapshot{}, done(err)
	}
	if err := f.fits(u.Bytes); err != nil {
		return record.Snapshot{}, fmt.Errorf("taking a snapshot of board %s: %w", serial, done(err))
	}
	s := record.Snapshot{Made: f.opt.Now().UTC(), Note: note, Image: slot.Image, Base: slot.Base, Boot: slot.Boot}
	if keep > 0 {
		s.Expires = s.Made.Add(keep)
	}
	if s.N, err = f.disk(serial).NextSnapshot(); err != nil {
		return record.Snapshot{}, done(err)
	}
	if err := done(f.takeSnapshot(ctx, b, slot, &s, progress)); err != nil {
		return s, fmt.Errorf("taking a snapshot of board %s: %w", serial, err)
	}
	f.log.Info("snapshot taken", "serial", serial, "snapshot", s.N, "bytes", s.Bytes, "files", s.Files)
	return s, nil
}

func (f *Fleet) takeSnapshot(ctx context.Context, b *board, slot record.Slot, s *record.Snapshot, progress func(upper.Size)) error {
	return f.disk(b.serial).AddSnapshot(ctx, s, func(to string) error {
		size, err := f.copyHeld(ctx, b, slot, to, progress)
		s.Bytes, s.Files = size.Bytes, size.Files
		return err
	}, func() { f.step(stepCopied) })
}

// copyHeld copies the upper of a slot while its board's changes are held.
func (f *Fleet) copyHeld(ctx context.Context, b *board, slot record.Slot, to string, progress func(upper.Size)) (upper.Size, error) {
	release, err := f.opt.Exporter.Hold(ctx, slot.Export)
	if errors.Is(err, nfsexport.ErrCalled) {
		return upper.Size{}, fmt.Errorf("%w: %w", ErrUp, err)
	}
	if err != nil {
		return upper.Size{}, err
	}
	defer release()
	spec := f.spec(b.serial, slot)
	return upper.Copy(ctx, spec.LayerDirs, spec.UpperDir, to, progress)
}

// RemoveSnapshot removes a snapshot of a board. It blocks while it removes files, for which a
// board that boots does not wait. The error wraps ErrRefused when the board is to boot it.
func (f *Fleet) RemoveSnapshot(ctx context.Context, serial device.Serial, n int) error {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return err
	}
	if b.record().Move.Needs(n) {
		err = fmt.Errorf("snapshot %d of board %s is what it boots next, as its rebase is undone: %w", n, serial, ErrRefused)
	} else {
		err = f.disk(serial).RemoveSnapshot(n)
	}
	b.work.Unlock()
	if err != nil {
		return err
	}
	f.step(stepMoved)
	f.log.Info("snapshot removed", "serial", serial, "snapshot", n)
	return f.sweepSnapshots(ctx, b)
}

// sweepSnapshots removes what is left of copies that were given up and of snapshots that
// were taken away, between the boots of the board.
func (f *Fleet) sweepSnapshots(ctx context.Context, b *board) error {
	for {
		if err := b.work.Lock(ctx); err != nil {
			return err
		}
		err := f.sweepHeld(ctx, b)
		b.work.Unlock()
		if !errors.Is(err, ErrBoots) {
			return err
		}
	}
}

// sweepHeld is sweepSnapshots until a boot comes, for those who hold work.
func (f *Fleet) sweepHeld(ctx context.Context, b *board) error {
	ctx, done := b.work.Yields(ctx, turn.Files)
	return done(f.disk(b.serial).SweepSnapshots(ctx))
}

// expire removes the snapshots of a board whose time is over, but for one that it is to boot.
func (f *Fleet) expire(ctx context.Context, b *board) {
	all, err := record.LoadSnapshots(f.opt.State, b.serial)
	if err != nil {
		f.log.Warn("a board's snapshots cannot be read", "serial", b.serial, "err", err)
		return
	}
	if !f.disk(b.serial).HasSnapshots() || !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	move := b.record().Move
	for _, s := range all {
		if s.Expires.IsZero() || f.opt.Now().Before(s.Expires) || move.Needs(s.N) {
			continue
		}
		if err := f.disk(b.serial).RemoveSnapshot(s.N); err != nil {
			f.log.Warn("a snapshot whose time is over stays", "serial", b.serial, "snapshot", s.N, "err", err)
			continue
		}
		f.log.Info("snapshot removed: its time is over", "serial", b.serial, "snapshot", s.N)
	}
	if err := f.sweepHeld(ctx, b); err != nil && !errors.Is(err, ErrBoots) {
		f.log.Warn("what was removed of a board's snapshots still takes space", "serial", b.serial, "err", err)
	}
}
