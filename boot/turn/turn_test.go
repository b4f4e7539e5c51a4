package turn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

var errWhy = errors.New("it gave way")

// Work that can wait is given up for what is needed, and for nothing less.
func TestYields(t *testing.T) {
	for name, c := range map[string]struct {
		to     Need
		need   Need
		before bool // who needs it waits when the work begins
		gives  bool
	}{
		"to files, for files":             {Files, Files, false, true},
		"to files, for a MOUNT":           {Files, Mount, false, true},
		"to a MOUNT, for files":           {Mount, Files, false, false},
		"to a MOUNT, for a MOUNT":         {Mount, Mount, false, true},
		"to files, for who waits":         {Files, Mount, true, true},
		"to a MOUNT, for who wants files": {Mount, Files, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			turn := New(errWhy)
			if err := turn.Lock(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := make(chan error, 1)
			wait := func() {
				go func() { got <- turn.LockFor(t.Context(), c.need) }()
				synctest.Wait()
			}
			if c.before {
				wait()
			}
			ctx, done := turn.Yields(t.Context(), c.to)
			if !c.before {
				wait()
			}
			if !turn.IsNeeded() {
				t.Errorf("%s: nobody waits", name)
			}
			if gives := errors.Is(context.Cause(ctx), errWhy); gives != c.gives {
				t.Errorf("%s: the work is over: %v", name, gives)
			}
			other := errors.New("of another kind")
			if err := done(other); c.gives && !errors.Is(err, errWhy) || !c.gives && !errors.Is(err, other) {
				t.Errorf("%s: the error of the work is %v", name, err)
			}
			turn.Unlock()
			if err := <-got; err != nil || turn.IsNeeded() || turn.TryLock() {
				t.Errorf("%s: who waited has no turn: %v", name, err)
			}
		})
	}
}

// What ended well is no error although somebody came, and work that is over gives way to nobody.
func TestDone(t *testing.T) {
	turn := New(errWhy)
	ctx, done := turn.Yields(t.Context(), Files)
	turn.MakeWay(Mount)
	if err := done(nil); err != nil || ctx.Err() == nil {
		t.Errorf("work that was done: %v, %v", err, ctx.Err())
	}
	_, done = turn.Yields(t.Context(), Files)
	if err := done(errors.ErrUnsupported); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("work after it: %v", err)
	}
	turn.MakeWay(Mount)
}

// Who gives up has no turn, and nobody waits for him.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := New(errWhy)
		if !turn.TryLock() || turn.TryLock() {
			t.Fatal("a turn that one has, or two")
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() { got <- turn.LockFor(ctx, Files) }()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) || turn.IsNeeded() {
			t.Errorf("who gave up: %v", err)
		}
		turn.Unlock()
		turn.Retake()
		if turn.TryLock() {
			t.Error("a turn that was taken again is free")
		}
	})
}
