package main

import (
	"context"
	"time"

	"rubus/boot/batch"
	"rubus/cmd/internal/control"
	"rubus/config/device"
	"rubus/images/imageref"
)

func (d *scripted) Snapshots(context.Context, device.Serial) ([]control.Snapshot, error) {
	return d.world.Snapshots, nil
}

func (d *scripted) Snapshot(_ context.Context, s device.Serial, note string, _ time.Duration, tell func(control.Progress)) (control.Snapshot, error) {
	tell(control.Progress{Bytes: 1, Files: 1})
	return d.world.Snapshots[0], d.do("snapshot", "snapshot %s %q", s, note)
}

func (d *scripted) Restore(_ context.Context, s device.Serial, n int, tell func(control.Progress)) error {
	tell(control.Progress{Bytes: 1, Files: 1})
	return d.do("restore", "restore %s %d", s, n)
}

func (d *scripted) RemoveSnapshot(_ context.Context, s device.Serial, n int) error {
	return d.do("remove", "remove %s %d", s, n)
}

func (d *scripted) Replace(_ context.Context, old, now device.Serial) error {
	return d.do("replace", "replace %s %s", old, now)
}

func (d *scripted) Undo(_ context.Context, s device.Serial, tell func(control.Progress)) (control.Move, error) {
	tell(control.Progress{Bytes: 1, Files: 1})
	ref := func(n int) imageref.Ref { return imageref.Ref{Name: "lab", Version: n} }
	return control.Move{State: "undone", From: ref(1), To: ref(2)}, d.do("undo", "undo %s", s)
}

func (d *scripted) Hold(ctx context.Context, s device.Serial) (context.Context, func() error, error) {
	return ctx, func() error { return nil }, d.do("hold", "hold %s", s)
}

func (d *scripted) TakeIn(_ context.Context, s device.Serial, _ string) (control.TakenIn, error) {
	return control.TakenIn{New: true}, d.do("take in", "take in %s", s)
}

func (d *scripted) Rebase(_ context.Context, o control.Rebase, tell func(control.Progress)) (batch.Batch, error) {
	tell(control.Progress{Bytes: 1, Files: 1})
	b := batch.Batch{N: 3, To: o.Image, Conflicts: o.Conflicts, First: o.First, State: "released"}
	for i, s := range o.Boards {
		m := batch.Member{Serial: s, State: "pending"}
		if o.First > 0 && i >= o.First {
			m.State, b.State = "waiting", "canaries"
		}
		b.Members = append(b.Members, m)
	}
	return b, d.do("rebase", "rebase %v %s %q first %d", o.Boards, o.Image, o.Conflicts, o.First)
}

func (d *scripted) Batches(context.Context) ([]batch.Batch, error) { return d.world.Batches, nil }

func (d *scripted) UndoBatch(_ context.Context, n int, tell func(control.Progress)) (batch.Batch, error) {
	tell(control.Progress{Bytes: 1, Files: 1})
	return d.world.Batches[0], d.do("undo", "undo batch %d", n)
}

func (d *scripted) ReleaseBatch(_ context.Context, n int) (batch.Batch, error) {
	return d.world.Batches[0], d.do("release", "release batch %d", n)
}
