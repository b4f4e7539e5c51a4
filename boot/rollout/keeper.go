package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// Task is the move of one board of a batch.
type Task struct {
	To        imageref.Ref
	Conflicts record.Conflicts
	Batch     int
	// Later leaves it to the board's next boot, also when the board is down.
	Later bool
}

// Boards are those that can be moved.
type Boards interface {
	// Version is the version that a reference names now.
	Version(to imageref.Ref) (imageref.Ref, error)
	// Rebase moves a board with what it wrote. The error wraps record.ErrNotFound,
	// writes.ErrNothing or record.ErrOnIt when there is nothing to move. It blocks while it
	// copies.
	Rebase(ctx context.Context, serial device.Serial, t Task, progress func(upper.Size)) error
	// Undo takes a board's last move back. It blocks while it copies.
	Undo(ctx context.Context, serial device.Serial, progress func(upper.Size)) error
	// Move is a board's last move; nil: it has none. It does not block.
	Move(serial device.Serial) *record.Move
	// Recall drops the move of a board if it is of this batch and still to come.
	Recall(ctx context.Context, serial device.Serial, batch int, why string) error
}

// Keeper has the boards of a site move in batches. Its methods may be called at once from
// anywhere.
type Keeper struct {
	boards  Boards
	batches *batch.Book
	log     *slog.Logger
	now     func() time.Time
	// advancing has a token while somebody advances the batches; he alone has found.
	advancing chan struct{}
	// found says that there are batches of an earlier daemon, not looked at for what it left.
	found bool
}

// New makes the Keeper of the batches of a state directory. It reads nothing yet.
func New(state string, boards Boards, log *slog.Logger, now func() time.Time) *Keeper {
	return &Keeper{boards: boards, batches: batch.NewBook(state), log: log, now: now, advancing: make(chan struct{}, 1)}
}

// Load reads the batches of an earlier daemon. It comes before all else.
func (k *Keeper) Load() error {
	k.found = true
	return k.batches.Load()
}

// Order asks for boards to be moved together.
type Order struct {
	Boards    []device.Serial
	To        imageref.Ref
	Conflicts record.Conflicts
	// First is how many of them are canaries: the rest moves by itself when each of those
	// had a boot that was reported as good; 0: all move now.
	First int
}

// Move moves boards to another version, and remembers them as a batch.
// What came of those whose turn it is stands in the batch; one that cannot be moved does not
// stop the others, but a canary that cannot be does. A board that is on its way to the version
// is passed over, so the same order, given again, is about the rest. It blocks while it copies.
// When the daemon ends meanwhile, the next one goes on.
func (k *Keeper) Move(ctx context.Context, o Order, progress func(upper.Size)) (batch.Batch, error) {
	to, err := k.boards.Version(o.To)
	if err != nil {
		return batch.Batch{}, err
	}
	for _, b := range k.batches.List() {
		if b.State != batch.Stopped {
			continue
		}
		for _, serial := range b.Recall() { // else they would be on their way still
			if err := k.boards.Recall(ctx, serial, b.N, batch.WhyStopped); err != nil {
				return batch.Batch{}, err
			}
		}
	}
	var rest []device.Serial
	onWay := map[device.Serial]string{}
	for _, serial := range o.Boards {
		if why := k.onWay(serial, to); why != "" {
			onWay[serial] = why
		} else {
			rest = append(rest, serial)
		}
	}
	b, err := k.batches.Add(func(n int) batch.Batch {
		b := batch.New(n, to, string(o.Conflicts), o.First, rest, k.now())
		for _, serial := range o.Boards {
			if why := onWay[serial]; why != "" {
				b.Pass(serial, why)
			}
		}
		return b
	})
	if b.N == 0 || err != nil && !k.batches.IsBegun(b.N) {
		return b, err
	}
	defer k.batches.End(b.N)
	k.log.Info("boards are moved", "batch", b.N, "to", b.To, "boards", len(b.Members), "first", b.First)
	for _, serial := range b.Turn() {
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if _, err := k.moveMember(ctx, b, serial, false, progress); err != nil {
			return b, err
		}
	}
	return k.advance(b.N)
}

// onWay says how far a board's move to a version is; "": there is none that goes on.
func (k *Keeper) onWay(serial device.Serial, to imageref.Ref) string {
	m := k.boards.Move(serial)
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
func (k *Keeper) moveMember(ctx context.Context, b batch.Batch, serial device.Serial, later bool, progress func(upper.Size)) (batch.Batch, error) {
	if !slices.Contains(k.batches.Turn(b.N), serial) {
		return b, nil // undone or stopped meanwhile
	}
	err := k.boards.Rebase(ctx, serial, Task{To: b.To, Conflicts: record.Conflicts(b.Conflicts), Batch: b.N, Later: later}, progress)
	if err == nil {
		if k.batches.IsDropped(b.N, serial) { // undone or stopped while it was copied
			err = k.boards.Undo(ctx, serial, progress)
		}
		return b, err
	}
	if ctx.Err() != nil {
		return b, ctx.Err()
	}
	state := string(record.MoveFailed)
	if errors.Is(err, record.ErrNotFound) || errors.Is(err, writes.ErrNothing) || errors.Is(err, record.ErrOnIt) {
		state = batch.Skipped
	}
	k.log.Warn("a board of a batch is not moved", "batch", b.N, "serial", serial, "why", err)
	return k.changeBatch(b.N, func(b *batch.Batch) bool {
		m := b.Member(serial)
		if m.State == batch.Dropped {
			return false
		}
		m.State, m.Why = state, err.Error()
		return true
	})
}

// changeBatch changes a batch, on disk first, if do says that it did.
func (k *Keeper) changeBatch(n int, do func(*batch.Batch) bool) (batch.Batch, error) {
	b, err := k.batches.Change(n, do)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("batch %d: %w", n, record.ErrNotFound)
	}
	return b, err
}

// advance takes what became of a batch's boards into account.
func (k *Keeper) advance(n int) (batch.Batch, error) {
	was := batch.State("")
	b, err := k.changeBatch(n, func(b *batch.Batch) bool {
		was = b.State
		return b.Advance(func(serial device.Serial) (batch.Move, bool) { return k.moveOf(serial, n) })
	})
	if err != nil || b.State == was {
		return b, err
	}
	if b.State == batch.Stopped {
		k.log.Error("a batch has stopped", "batch", n, "to", b.To, "why", b.Why)
	} else {
		k.log.Info("a batch goes on", "batch", n, "to", b.To, "state", b.State)
	}
	return b, nil
}

// moveOf is the move of a board, if it is of batch n.
func (k *Keeper) moveOf(serial device.Serial, n int) (batch.Move, bool) {
	m := k.boards.Move(serial)
	if m == nil || m.Batch != n {
		return batch.Move{}, false
	}
	return batch.Move{State: string(m.State), Why: m.Why, Overdue: !m.Overdue.IsZero(), Snapshot: m.Snapshot, Reports: m.Reports}, true
}

// Advance goes on with all batches: it releases boards whose turn has come, and recalls
// those of a batch that stopped. A board is only told what to do at its next boot.
func (k *Keeper) Advance(ctx context.Context) {
	select {
	case k.advancing <- struct{}{}:
	default:
		return
	}
	defer func() { <-k.advancing }()
	if k.found {
		k.found = !k.takeBackDropped(ctx)
	}
	for _, b := range k.batches.List() {
		if k.batches.IsBegun(b.N) || b.IsOver() && b.State != batch.Released {
			continue
		}
		if err := k.advanceAll(ctx, b.N); err != nil && ctx.Err() == nil {
			k.log.Error("a batch cannot go on", "batch", b.N, "err", err)
		}
	}
}

// takeBackDropped takes back boards that were dropped while they were copied, and whose daemon
// was killed before it could do so. It says whether all is done.
func (k *Keeper) takeBackDropped(ctx context.Context) (done bool) {
	done = true
	for _, b := range k.batches.List() {
		if k.batches.IsBegun(b.N) {
			continue // of this daemon
		}
		for _, m := range b.Members {
			if move, ok := k.moveOf(m.Serial, b.N); !ok || m.State != batch.Dropped || !move.GoesOn() {
				continue
			}
			if err := k.boards.Undo(ctx, m.Serial, nil); err != nil {
				done = false
				if ctx.Err() == nil {
					k.log.Error("a board that was dropped from its batch cannot be taken back", "batch", b.N, "serial", m.Serial, "err", err)
				}
			}
		}
	}
	return done
}

func (k *Keeper) advanceAll(ctx context.Context, n int) error {
	b, err := k.advance(n)
	if err != nil {
		return err
	}
	turn, recall := b.Turn(), b.Recall()
	if len(turn)+len(recall) == 0 {
		return nil
	}
	for _, serial := range turn {
		if _, err := k.moveMember(ctx, b, serial, true, nil); err != nil {
			return err
		}
	}
	for _, serial := range recall {
		if err := k.boards.Recall(ctx, serial, n, batch.WhyStopped); err != nil {
			return err
		}
	}
	_, err = k.advance(n)
	return err
}

// Batches lists the batches, the oldest first.
func (k *Keeper) Batches() []batch.Batch {
	for _, b := range k.batches.List() {
		if !k.batches.IsBegun(b.N) {
			_, _ = k.advance(b.N) // what cannot be written down is tried again, and logged, by Run
		}
	}
	return k.batches.List()
}

// Undo takes a batch back: boards that wait stay as they are, and those that moved are
// taken back. Done again it does nothing. What could not be taken back is in the error.
func (k *Keeper) Undo(ctx context.Context, n int, progress func(upper.Size)) (batch.Batch, error) {
	b, err := k.changeBatch(n, func(b *batch.Batch) bool {
		b.Advance(func(serial device.Serial) (batch.Move, bool) { return k.moveOf(serial, n) })
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
		if _, ok := k.moveOf(serial, n); !ok {
			continue
		}
		if err := k.boards.Undo(ctx, serial, progress); err != nil {
			errs = append(errs, err)
		}
	}
	b, err = k.advance(n)
	return b, errors.Join(append(errs, err)...)
}

// Release has the rest of a batch move without waiting for its canaries.
func (k *Keeper) Release(ctx context.Context, n int) (batch.Batch, error) {
	b, err := k.changeBatch(n, func(b *batch.Batch) bool { return b.Release() })
	if err != nil {
		return b, err
	}
	k.log.Info("a batch is released", "batch", n)
	k.Advance(ctx)
	return k.advance(n)
}
