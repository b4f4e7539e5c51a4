package servecmd

import (
	"context"

	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/boot/rollout"
	"rubus/cmd/internal/control"
)

// Rebase implements control.Daemon.
func (d *controlled) Rebase(ctx context.Context, o control.Rebase, tell func(control.Progress)) (batch.Batch, error) {
	switch record.Conflicts(o.Conflicts) {
	case "", record.ConflictsBoard, record.ConflictsImage:
	default:
		return batch.Batch{}, control.Errorf(control.KindInvalid, "conflicts %q: want board or image", o.Conflicts)
	}
	if len(o.Boards) == 0 || o.First < 0 {
		return batch.Batch{}, control.Errorf(control.KindInvalid, "a rebase of %d boards, the first %d at once", len(o.Boards), o.First)
	}
	b, err := d.fleet.Rollouts().Move(ctx, rollout.Order{
		Boards: o.Boards, To: o.Image, Conflicts: record.Conflicts(o.Conflicts), First: o.First,
	}, telling(tell))
	return b, controlError(err)
}

// Batches implements control.Daemon.
func (d *controlled) Batches(context.Context) ([]batch.Batch, error) {
	return append([]batch.Batch{}, d.fleet.Rollouts().Batches()...), nil // none are an empty list
}

// UndoBatch implements control.Daemon.
func (d *controlled) UndoBatch(ctx context.Context, n int, tell func(control.Progress)) (batch.Batch, error) {
	b, err := d.fleet.Rollouts().Undo(ctx, n, telling(tell))
	return b, controlError(err)
}

// ReleaseBatch implements control.Daemon.
func (d *controlled) ReleaseBatch(ctx context.Context, n int) (batch.Batch, error) {
	b, err := d.fleet.Rollouts().Release(ctx, n)
	return b, controlError(err)
}
