package boot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"rubus/boot/batch"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// keepBatches is how many batches that are over are remembered.
const keepBatches = 100

// batches are the batches of a state directory. Its lock may be held over the disk, and no
// other is taken under it but for moments.
type batches struct {
	mu    sync.Mutex
	store batch.Store
	all   []batch.Batch // the oldest first
	// begun are those whose boards are being moved by whoever asked for it.
	begun map[int]bool
	// busy has a token while somebody advances them.
	busy chan struct{}
}

func newBatches(state string) *batches {
	return &batches{store: batch.Store{Dir: filepath.Join(state, "batches")}, begun: map[int]bool{}, busy: make(chan struct{}, 1)}
}

// load reads the batches of an earlier daemon.
func (s *batches) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.store.Load()
	s.all = all
	return err
}

// list is a copy of all batches.
func (s *batches) list() []batch.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]batch.Batch, 0, len(s.all))
	for _, b := range s.all {
		out = append(out, b.Clone())
	}
	return out
}

// add makes the next batch.
func (s *batches) add(make func(n int) batch.Batch) (batch.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.store.Next()
	if err != nil {
		return batch.Batch{}, err
	}
	b := make(n)
	if err := s.store.Save(b); err != nil {
		return b, err
	}
	s.all = append(s.all, b)
	s.begun[n] = true
	return b.Clone(), s.forget()
}

// forget removes the oldest of those that are over. The lock is held.
func (s *batches) forget() error {
	over := 0
	for i := len(s.all) - 1; i >= 0; i-- {
		if !s.all[i].IsOver() {
			continue
		}
		if over++; over <= keepBatches {
			continue
		}
		if err := s.store.Remove(s.all[i].N); err != nil {
			return err
		}
		s.all = slices.Delete(s.all, i, i+1)
	}
	return nil
}

// change changes a batch, on disk first, if do says that it did.
func (s *batches) change(n int, do func(*batch.Batch) bool) (batch.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N != n {
			continue
		}
		b := s.all[i].Clone()
		if !do(&b) {
			return b, nil
		}
		if err := s.store.Save(b); err != nil {
			return b, err
		}
		s.all[i] = b
		return b.Clone(), nil
	}
	return batch.Batch{}, fmt.Errorf("batch %d: %w", n, ErrNotFound)
}

// turn lists the boards of a batch whose turn it is.
func (s *batches) turn(n int) []device.Serial {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N == n {
			return s.all[i].Turn()
		}
	}
	return nil
}

// isDropped says whether a board of a batch is not to move any more.
func (s *batches) isDropped(n int, serial device.Serial) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N == n {
			m := s.all[i].Member(serial)
			return m != nil && m.State == batch.Dropped
		}
	}
	return false
}

func (s *batches) isBegun(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun[n]
}

func (s *batches) end(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, n)
}

// BatchOrder asks for boards to be moved together.
type BatchOrder struct {
	Boards    []device.Serial
	To        imageref.Ref
	Conflicts Conflicts
	// First is how many of them are canaries: the rest moves by itself when each of those
	// had a boot that was reported as good; 0: all move now.
	First int
}

// RebaseAll moves boards to another version as Rebase does, and remembers them as a batch.
// What came of those whose turn it is stands in the batch; one that cannot be moved does not
// stop the others, but a canary that cannot be does. It blocks while it copies. When the
// daemon ends meanwhile, the next one goes on.
func (f *Fleet) RebaseAll(ctx context.Context, o BatchOrder, progress func(upper.Size)) (batch.Batch, error) {
	v, err := f.opt.Store.Resolve(o.To)
	if err != nil {
		return batch.Batch{}, err
	}
	b, err := f.batches.add(func(n int) batch.Batch {
		return batch.New(n, v.Ref, string(o.Conflicts), o.First, o.Boards, f.opt.Now())
	})
	if b.N == 0 || err != nil && !f.batches.isBegun(b.N) {
		return b, err
	}
	defer f.batches.end(b.N)
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

// moveMember moves a board of a batch whose turn it is. The error is that of the batch's record.
func (f *Fleet) moveMember(ctx context.Context, b batch.Batch, serial device.Serial, later bool, progress func(upper.Size)) (batch.Batch, error) {
	if !slices.Contains(f.batches.turn(b.N), serial) {
		return b, nil // undone or stopped meanwhile
	}
	_, err := f.Rebase(ctx, serial, Order{To: b.To, Conflicts: Conflicts(b.Conflicts), Batch: b.N, Later: later}, progress)
	if ctx.Err() != nil {
		return b, ctx.Err()
	}
	if err == nil {
		if f.batches.isDropped(b.N, serial) { // undone or stopped while it was copied
			_, err = f.Undo(ctx, serial, progress)
		}
		return b, err
	}
	state := string(MoveFailed)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrOnIt) {
		state = batch.Skipped
	}
	f.log.Warn("a board of a batch is not moved", "batch", b.N, "serial", serial, "why", err)
	return f.batches.change(b.N, func(b *batch.Batch) bool {
		m := b.Member(serial)
		if m.State == batch.Dropped {
			return false
		}
		m.State, m.Why = state, err.Error()
		return true
	})
}

// advance takes what became of a batch's boards into account.
func (f *Fleet) advance(n int) (batch.Batch, error) {
	was := batch.State("")
	b, err := f.batches.change(n, func(b *batch.Batch) bool {
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
	return batch.Move{State: string(m.State), Why: m.Why, Snapshot: m.Snapshot}, true
}

// Advance goes on with all batches: it releases boards whose turn has come, and recalls
// those of a batch that stopped. A board is only told what to do at its next boot.
func (f *Fleet) Advance(ctx context.Context) {
	select {
	case f.batches.busy <- struct{}{}:
	default:
		return
	}
	defer func() { <-f.batches.busy }()
	for _, b := range f.batches.list() {
		if f.batches.isBegun(b.N) || b.IsOver() && b.State != batch.Released {
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
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	rec := b.record()
	if m := rec.Move; m == nil || m.Batch != n || m.State != MovePending {
		return nil
	}
	rec.takeBack(MoveUndone, "the batch stopped", f.opt.Now())
	return f.store(b, rec)
}

// Batches lists the batches, the oldest first.
func (f *Fleet) Batches() []batch.Batch {
	for _, b := range f.batches.list() {
		if !f.batches.isBegun(b.N) {
			_, _ = f.advance(b.N) // what cannot be written down is tried again, and logged, by Run
		}
	}
	return f.batches.list()
}

// UndoAll takes a batch back: boards that wait stay as they are, and those that moved are
// taken back as Undo does. Done again it does nothing. What could not be taken back is in the error.
func (f *Fleet) UndoAll(ctx context.Context, n int, progress func(upper.Size)) (batch.Batch, error) {
	b, err := f.batches.change(n, func(b *batch.Batch) bool {
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
	b, err := f.batches.change(n, func(b *batch.Batch) bool { return b.Release() })
	if err != nil {
		return b, err
	}
	f.log.Info("a batch is released", "batch", n)
	f.Advance(ctx)
	return f.advance(n)
}
