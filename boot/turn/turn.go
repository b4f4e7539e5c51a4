// Package turn has one at a time work on a thing, and has work that can wait give way to what the thing itself needs.
package turn

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Need is what somebody needs his turn for. A greater one is also a reason to give way
// for whatever gives way to a lesser one.
type Need int

// The needs of a board, while somebody may copy what it wrote.
const (
	Files Need = iota // of a boot that begins
	Mount             // the root that it booted with, or the same from another address
)

// Turn is held by one at a time.
type Turn struct {
	token chan struct{}
	why   error // that work gave way

	mu       sync.Mutex
	yielding []*yielding
	needs    [Mount + 1]int // who waits
}

// yielding is work that is given up for a need of at least this kind.
type yielding struct {
	to     Need
	cancel context.CancelCauseFunc
}

// New is a turn that nobody has. Work that gives way ends with the error why.
func New(why error) *Turn { return &Turn{token: make(chan struct{}, 1), why: why} }

// Lock waits for the turn until ctx ends.
func (t *Turn) Lock(ctx context.Context) error {
	select {
	case t.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryLock is Lock for those who can come again: one board that hangs must not hold up
// the others.
func (t *Turn) TryLock() bool {
	select {
	case t.token <- struct{}{}:
		return true
	default:
		return false
	}
}

// Retake waits for the turn however long that takes, for whoever let go of it in
// between and owes it to his caller.
func (t *Turn) Retake() { t.token <- struct{}{} }

// Unlock ends the turn.
func (t *Turn) Unlock() { <-t.token }

// LockFor is Lock for a need: it ends work that gives way to that.
func (t *Turn) LockFor(ctx context.Context, n Need) error {
	t.mu.Lock()
	t.needs[n]++
	t.makeWay(n)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.needs[n]--
		t.mu.Unlock()
	}()
	return t.Lock(ctx)
}

// MakeWay ends work that gives way to a need, for those who come again.
func (t *Turn) MakeWay(n Need) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.makeWay(n)
}

// makeWay is MakeWay for those who hold mu.
func (t *Turn) makeWay(n Need) {
	for _, y := range t.yielding {
		if n >= y.to {
			y.cancel(t.why)
		}
	}
}

// IsNeeded says that somebody waits in LockFor.
func (t *Turn) IsNeeded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.needs != [Mount + 1]int{}
}

// Yields is a context of work that gives way to needs of at least this kind, those of
// who waits already, too. done ends that, and makes an error that came of it the one that
// says why. The caller has the turn.
func (t *Turn) Yields(ctx context.Context, to Need) (_ context.Context, done func(error) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	y := &yielding{to, cancel}
	t.mu.Lock()
	t.yielding = append(t.yielding, y)
	for n, waits := range t.needs {
		if waits > 0 && Need(n) >= to {
			cancel(t.why) // it came before
		}
	}
	t.mu.Unlock()
	return ctx, func(err error) error {
		t.mu.Lock()
		t.yielding = slices.DeleteFunc(t.yielding, func(o *yielding) bool { return o == y })
		t.mu.Unlock()
		if err != nil && errors.Is(context.Cause(ctx), t.why) {
			err = t.why
		}
		cancel(nil)
		return err
	}
}
