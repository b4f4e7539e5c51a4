package boot

import (
	"context"

	"rubus/boot/record"
	"rubus/boot/rollout"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// Rollouts are the boards that move together, in batches.
func (f *Fleet) Rollouts() *rollout.Keeper { return f.rollouts }

// members are the boards of a Fleet as a rollout sees them.
type members struct{ *Fleet }

// Version implements rollout.Boards.
func (f members) Version(to imageref.Ref) (imageref.Ref, error) {
	v, err := f.opt.Store.Resolve(to)
	return v.Ref, err
}

// Rebase implements rollout.Boards.
func (f members) Rebase(ctx context.Context, serial device.Serial, t rollout.Task, progress func(upper.Size)) error {
	_, err := f.Fleet.Rebase(ctx, serial, Order{To: t.To, Conflicts: t.Conflicts, Batch: t.Batch, Later: t.Later}, progress)
	return err
}

// Undo implements rollout.Boards.
func (f members) Undo(ctx context.Context, serial device.Serial, progress func(upper.Size)) error {
	_, err := f.Fleet.Undo(ctx, serial, progress)
	return err
}

// Move implements rollout.Boards.
func (f members) Move(serial device.Serial) *record.Move {
	b := f.known(serial)
	if b == nil {
		return nil
	}
	return b.record().Move
}

// Recall implements rollout.Boards.
func (f members) Recall(ctx context.Context, serial device.Serial, batch int, why string) error {
	b := f.known(serial)
	if b == nil {
		return nil
	}
	if err := b.work.Lock(ctx); err != nil {
		return err
	}
	defer b.work.Unlock()
	rec := b.record()
	if m := rec.Move; m == nil || m.Batch != batch || m.State != record.MovePending {
		return nil
	}
	rec.TakeBack(record.MoveUndone, why, f.opt.Now())
	return f.store(b, rec)
}
