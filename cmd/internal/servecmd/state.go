package servecmd

import (
	"context"
	"fmt"
	"time"

	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/cmd/internal/control"
	"rubus/config/device"
	"rubus/images/upper"
)

// Snapshots implements control.Daemon.
func (d *controlled) Snapshots(_ context.Context, serial device.Serial) ([]control.Snapshot, error) {
	all, err := d.fleet.Snapshots(serial)
	if err != nil {
		return nil, controlError(err)
	}
	out := []control.Snapshot{}
	for _, s := range all {
		out = append(out, snapshotOf(s))
	}
	return out, nil
}

func snapshotOf(s record.Snapshot) control.Snapshot {
	return control.Snapshot{N: s.N, Made: s.Made, Note: s.Note, Image: s.Image, Bytes: s.Bytes, Files: s.Files, Expires: s.Expires}
}

// Snapshot implements control.Daemon.
func (d *controlled) Snapshot(ctx context.Context, serial device.Serial, note string, keep time.Duration, tell func(control.Progress)) (control.Snapshot, error) {
	s, err := d.fleet.SnapshotFor(ctx, serial, note, keep, telling(tell))
	if d.isUnseen(serial, err) {
		err = fmt.Errorf("board %s has written %w: it never booted", serial, writes.ErrNothing)
	}
	return snapshotOf(s), controlError(err)
}

// Restore implements control.Daemon.
func (d *controlled) Restore(ctx context.Context, serial device.Serial, n int, tell func(control.Progress)) error {
	return controlError(d.fleet.Restore(ctx, serial, n, telling(tell)))
}

// RemoveSnapshot implements control.Daemon.
func (d *controlled) RemoveSnapshot(ctx context.Context, serial device.Serial, n int) error {
	return controlError(d.fleet.RemoveSnapshot(ctx, serial, n))
}

func telling(tell func(control.Progress)) func(upper.Size) {
	if tell == nil {
		return nil
	}
	return upper.Paced(func(s upper.Size) { tell(control.Progress{Bytes: s.Bytes, Files: s.Files}) })
}

// Replace implements control.Daemon.
func (d *controlled) Replace(ctx context.Context, old, now device.Serial) error {
	return controlError(d.fleet.Replace(ctx, old, now))
}

// Undo implements control.Daemon.
func (d *controlled) Undo(ctx context.Context, serial device.Serial, tell func(control.Progress)) (control.Move, error) {
	if _, err := d.fleet.Undo(ctx, serial, telling(tell)); err != nil {
		return control.Move{}, controlError(err)
	}
	b, err := d.Board(ctx, serial)
	if err != nil || b.Move == nil {
		return control.Move{}, err
	}
	return *b.Move, nil
}

// moveOf is the last rebase of a board; nil: none.
func moveOf(m *record.Move) *control.Move {
	if m == nil {
		return nil
	}
	return &control.Move{
		State: string(m.State), Since: m.Since, Why: m.Why, From: m.From, To: m.To, Batch: m.Batch,
		Reports: m.Reports, Failures: m.Failures, Overdue: m.Overdue, Snapshot: m.Snapshot,
	}
}
