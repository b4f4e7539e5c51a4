package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// BatchOrder asks for boards to be moved together.
type BatchOrder struct {
	Boards    []device.Serial
	To        imageref.Ref
	Conflicts record.Conflicts
	// First is how many of them are canaries: the rest moves by itself when each of those
	// had a boot that was reported as good; 0: all move now.
	First int
}

// RebaseAll moves boards to another version as Rebase does, and remembers them as a batch.
// What came of those whose turn it is stands in the batch; one that cannot be moved does not
// stop the others, but a canary that cannot be does. A board that is on its way to the version
// is passed over, so the same order, given again, is about the rest. It blocks while it copies.
// When the daemon ends meanwhile, the next one goes on.
func (f *Fleet) RebaseAll(ctx context.Context, o BatchOrder, progress func(upper.Size)) (batch.Batch, error) {
	v, err := f.opt.Store.Resolve(o.To)
	if err != nil {
		return batch.Batch{}, err
	}
	for _, b := range f.batches.List() {
		if b.State != batch.Stopped {
			continue
		}
		for _, serial := range b.Recall() { // else they would be on their way still
			if err := f.recallMove(ctx, serial, b.N); err != nil {
				return batch.Batch{}, err
			}
		}
	}
	var rest []device.Serial
	onWay := map[device.Serial]string{}
	for _, serial := range o.Boards {
		if why := f.onWay(serial, v.Ref); why != "" {
			onWay[serial] = why
		} else {
			rest = append(rest, serial)
		}
	}
	b, err := f.batches.Add(func(n int) batch.Batch {
		b := batch.New(n, v.Ref, string(o.Conflicts), o.First, rest, f.opt.Now())
		for _, serial := range o.Boards {
			if why := onWay[serial]; why != "" {
				b.Pass(serial, why)
			}
		}
		return b
	})
	if b.N == 0 || err != nil && !f.batches.IsBegun(b.N) {
		return b, err
	}
	defer f.batches.End(b.N)
	f.log.Info("boards are moved", "batch", b.N, "to", b.To, "boards", len(b.Members), "first", b.First)
	for _, serial := range b.Turn() {
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if _, err := f.moveMember(ctx, b, serial, false, progress); err != nil {
			return b, err
		}
	}
	return f.advance(b.N)
}

// onWay says how far a board's move to a version is; "": there is none that goes on.
func (f *Fleet) onWay(serial device.Serial, to imageref.Ref) string {
	b := f.known(serial)
	if b == nil {
		return ""
	}
	m := b.record().Move
	if m == nil || m.To != to || m.State != record.MovePending && m.State != record.MoveTrial {
		return ""
	}
	why := fmt.Sprintf("its move there is %s", m.State)
	if m.Batch != 0 {
		why += fmt.Sprintf(" (batch %d)", m.Batch)
	}
	return why
}

// moveMember moves a board of a batch whose turn it is. The error is that of the batch's record.
func (f *Fleet) moveMember(ctx context.Context, b batch.Batch, serial device.Serial, later bool, progress func(upper.Size)) (batch.Batch, error) {
	if !slices.Contains(f.batches.Turn(b.N), serial) {
		return b, nil // undone or stopped meanwhile
	}
	_, err := f.Rebase(ctx, serial, Order{To: b.To, Conflicts: record.Conflicts(b.Conflicts), Batch: b.N, Later: later}, progress)
	if ctx.Err() != nil {
		return b, ctx.Err()
	}
	if err == nil {
		if f.batches.IsDropped(b.N, serial) { // undone or stopped while it was copied
			_, err = f.Undo(ctx, serial, progress)
		}
		return b, err
	}
	state := string(record.MoveFailed)
	if errors.Is(err, ErrNotFound) || errors.Is(err, writes.ErrNothing) || errors.Is(err, ErrOnIt) {
		state = batch.Skipped
	}
	f.log.Warn("a board of a batch is not moved", "batch", b.N, "serial", serial, "why", err)
	return f.changeBatch(b.N, func(b *batch.Batch) bool {
		m := b.Member(serial)
		if m.State == batch.Dropped {
			return false
		}
		m.State, m.Why = state, err.Error()
		return true
	})
}

// changeBatch changes a batch, on disk first, if do says that it did.
func (f *Fleet) changeBatch(n int, do func(*batch.Batch) bool) (batch.Batch, error) {
	b, err := f.batches.Change(n, do)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("batch %d: %w", n, ErrNotFound)
	}
	return b, err
}

// advance takes what became of a batch's boards into account.
func (f *Fleet) advance(n int) (batch.Batch, error) {
	was := batch.State("")
	b, err := f.changeBatch(n, func(b *batch.Batch) bool {
		was = b.State
		return b.Advance(func(serial device.Serial) (batch.Move, bool) { return f.moveOf(serial, n) })
	})
	if err != nil || b.State == was {
		return b, err
	}
	if b.State == batch.Stopped {
		f.log.Error("a batch has stopped", "batch", n, "to", b.To, "why", b.Why)
	} else {
		f.log.Info("a batch goes on", "batch", n, "to", b.To, "state", b.State)
	}
	return b, nil
}

// moveOf is the move of a board, if it is of batch n.
func (f *Fleet) moveOf(serial device.Serial, n int) (batch.Move, bool) {
	b := f.known(serial)
	if b == nil {
		return batch.Move{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.rec.Move
	if m == nil || m.Batch != n {
		return batch.Move{}, false
	}
	return batch.Move{State: string(m.State), Why: m.Why, Overdue: !m.Overdue.IsZero(), Snapshot: m.Snapshot, Reports: m.Reports}, true
}

// Advance goes on with all batches: it releases boards whose turn has come, and recalls
// those of a batch that stopped. A board is only told what to do at its next boot.
func (f *Fleet) Advance(ctx context.Context) {
	select {
	case f.advancing <- struct{}{}:
	default:
		return
	}
	defer func() { <-f.advancing }()
	for _, b := range f.batches.List() {
		if f.batches.IsBegun(b.N) || b.IsOver() && b.State != batch.Released {
			continue
		}
		if err := f.advanceAll(ctx, b.N); err != nil && ctx.Err() == nil {
			f.log.Error("a batch cannot go on", "batch", b.N, "err", err)
		}
	}
}

func (f *Fleet) advanceAll(ctx context.Context, n int) error {
	b, err := f.advance(n)
	if err != nil {
		return err
	}
	turn, recall := b.Turn(), b.Recall()
	if len(turn)+len(recall) == 0 {
		return nil
	}
	for _, serial := range turn {
		if _, err := f.moveMember(ctx, b, serial, true, nil); err != nil {
			return err
		}
	}
	for _, serial := range recall {
		if err := f.recallMove(ctx, serial, n); err != nil {
			return err
		}
	}
	_, err = f.advance(n)
	return err
}

// recallMove drops the move of a board if it is still to come.
func (f *Fleet) recallMove(ctx context.Context, serial device.Serial, n int) error {
	b := f.known(serial)
	if b == nil {
		return nil
	}
	if err := b.work.Lock(ctx); err != nil {
		return err
	}
	defer b.work.Unlock()
	rec := b.record()
	if m := rec.Move; m == nil || m.Batch != n || m.State != record.MovePending {
		return nil
	}
	rec.TakeBack(record.MoveUndone, batch.WhyStopped, f.opt.Now())
	return f.store(b, rec)
}

// Batches lists the batches, the oldest first.
func (f *Fleet) Batches() []batch.Batch {
	for _, b := range f.batches.List() {
		if !f.batches.IsBegun(b.N) {
			_, _ = f.advance(b.N) // what cannot be written down is tried again, and logged, by Run
		}
	}
	return f.batches.List()
}

// UndoAll takes a batch back: boards that wait stay as they are, and those that moved are
// taken back as Undo does. Done again it does nothing. What could not be taken back is in the error.
func (f *Fleet) UndoAll(ctx context.Context, n int, progress func(upper.Size)) (batch.Batch, error) {
	b, err := f.changeBatch(n, func(b *batch.Batch) bool {
		b.Advance(func(serial device.Serial) (batch.Move, bool) { return f.moveOf(serial, n) })
		b.Undo()
		return true
	})
	if err != nil {
		return b, err
	}
	var errs []error
	for _, serial := range b.Moved() {
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if _, ok := f.moveOf(serial, n); !ok {
			continue
		}
		if _, err := f.Undo(ctx, serial, progress); err != nil {
			errs = append(errs, err)
		}
	}
	b, err = f.advance(n)
	return b, errors.Join(append(errs, err)...)
}

// ReleaseAll has the rest of a batch move without waiting for its canaries.
func (f *Fleet) ReleaseAll(ctx context.Context, n int) (batch.Batch, error) {
	b, err := f.changeBatch(n, func(b *batch.Batch) bool { return b.Release() })
	if err != nil {
		return b, err
	}
	f.log.Info("a batch is released", "batch", n)
	f.Advance(ctx)
	return f.advance(n)
}
