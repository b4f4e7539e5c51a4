package servecmd

import (
	"context"

	"rubus/boot"
	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/cmd/internal/control"
)

// Rebase implements control.Daemon.
func (d *controlled) Rebase(ctx context.Context, o control.Rebase, tell func(control.Progress)) (control.Batch, error) {
	switch record.Conflicts(o.Conflicts) {
	case "", record.ConflictsBoard, record.ConflictsImage:
	default:
		return control.Batch{}, control.Errorf(control.KindInvalid, "conflicts %q: want board or image", o.Conflicts)
	}
	if len(o.Boards) == 0 || o.First < 0 {
		return control.Batch{}, control.Errorf(control.KindInvalid, "a rebase of %d boards, the first %d at once", len(o.Boards), o.First)
	}
	b, err := d.fleet.RebaseAll(ctx, boot.BatchOrder{
		Boards: o.Boards, To: o.Image, Conflicts: record.Conflicts(o.Conflicts), First: o.First,
	}, telling(tell))
	return d.batchOf(b), controlError(err)
}

// Batches implements control.Daemon.
func (d *controlled) Batches(context.Context) ([]control.Batch, error) {
	out := []control.Batch{}
	for _, b := range d.fleet.Batches() {
		out = append(out, d.batchOf(b))
	}
	return out, nil
}

// UndoBatch implements control.Daemon.
func (d *controlled) UndoBatch(ctx context.Context, n int, tell func(control.Progress)) (control.Batch, error) {
	b, err := d.fleet.UndoAll(ctx, n, telling(tell))
	return d.batchOf(b), controlError(err)
}

// ReleaseBatch implements control.Daemon.
func (d *controlled) ReleaseBatch(ctx context.Context, n int) (control.Batch, error) {
	b, err := d.fleet.ReleaseAll(ctx, n)
	return d.batchOf(b), controlError(err)
}

func (d *controlled) batchOf(b batch.Batch) control.Batch {
	out := control.Batch{
		N: b.N, Made: b.Made, To: b.To, Conflicts: b.Conflicts, First: b.First, State: string(b.State), Why: b.Why, Members: []control.Member{},
	}
	for _, m := range b.Members {
		member := control.Member{Serial: m.Serial, State: m.State, Why: m.Why, Snapshot: m.Snapshot}
		if s, ok := d.fleet.Board(m.Serial); ok && s.Move != nil && s.Move.Batch == b.N {
			member.Reports = s.Move.Reports
		}
		out.Members = append(out.Members, member)
	}
	return out
}
