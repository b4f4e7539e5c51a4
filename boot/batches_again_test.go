package boot_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/imageref"
)

// unfinished is what the status says of batches that stopped.
func (l *lab) unfinished() []batch.Unfinished {
	return batch.UnfinishedOf(l.fleet.Rollouts().Batches(), func(s device.Serial, to imageref.Ref) bool {
		st, _ := l.fleet.Board(s)
		return st.Running == to
	})
}

// TestBatchSaidAgain: of a batch that a hanging board stopped the rest is known, also after a
// restart; the same order moves it, leaves the board that hangs alone, and said once more
// does nothing.
func TestBatchSaidAgain(t *testing.T) {
	l, at := pairLab(t)
	l.opt.GoodWithin = 30 * time.Minute
	l.restart()
	_, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil)
	must(t, err)
	l.comesUp(at, serialA, false)
	l.clock.add(31 * time.Minute)
	l.fleet.LookAfter(t.Context())
	l.fleet.Rollouts().Advance(t.Context())
	l.restart()
	l.wantBatch("1 stopped: trial dropped")
	if u := l.unfinished(); len(u) != 1 || u[0].N != 1 || !slices.Equal(u[0].Rest, []device.Serial{serialB}) || !strings.Contains(u[0].Why, "is on trial") {
		t.Errorf("unfinished: %+v", u)
	}
	hangs, _ := l.fleet.Board(serialA)

	b, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil)
	if err != nil || b.Member(serialA) == nil || b.Member(serialA).Why != "its move there is trial (batch 1)" {
		t.Fatalf("%+v, %v", b, err)
	}
	l.wantBatch("2 released: pending skipped")
	if u := l.unfinished(); len(u) > 0 {
		t.Errorf("ordered again, and still unfinished: %+v", u)
	}
	// On its way it is passed over, too.
	_, err = l.fleet.Rollouts().Move(t.Context(), canary(), nil)
	must(t, err)
	l.wantBatch("3 done: skipped skipped")
	if got := l.comesUp(at, serialB, true); got != "two" {
		t.Errorf("the rest boots %q", got)
	}
	_, err = l.fleet.Rollouts().Move(t.Context(), canary(), nil)
	must(t, err)
	l.wantBatch("4 done: skipped skipped")
	if all := l.fleet.Rollouts().Batches(); all[1].State != batch.Done || all[1].Member(serialB).State != string(record.MoveGood) {
		t.Errorf("the second order: %+v", all[1])
	}
	if now, _ := l.fleet.Board(serialA); now.Move.State != record.MoveTrial || now.Move.Batch != 1 || !now.Move.Overdue.Equal(hangs.Move.Overdue) {
		t.Errorf("the board that hangs was touched: %+v", now.Move)
	}
}

// TestBatchSaidAgainAtOnce: boards that are still to be called back by a batch that stopped are
// the rest, not on their way.
func TestBatchSaidAgainAtOnce(t *testing.T) {
	l, at := pairLab(t)
	o := canary()
	o.First = 0
	_, err := l.fleet.Rollouts().Move(t.Context(), o, nil)
	must(t, err)
	l.comesUp(at, serialA, false)
	if got := l.comesUp(at, serialA, false); got != "one" {
		t.Errorf("not good, and it boots %q", got)
	}
	l.wantBatch("1 stopped: back pending")
	_, err = l.fleet.Rollouts().Move(t.Context(), o, nil)
	must(t, err)
	l.wantBatch("2 released: pending pending")
	for s := range at {
		if got := l.comesUp(at, s, true); got != "two" {
			t.Errorf("%s boots %q", s, got)
		}
	}
	l.wantBatch("2 done: good good")
	if u := l.unfinished(); len(u) > 0 {
		t.Errorf("unfinished: %+v", u)
	}
}

// TestBatchWhoseCallerIsGone: a batch goes on when who ordered it is killed.
func TestBatchWhoseCallerIsGone(t *testing.T) {
	l, _ := pairLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := canary()
	o.First = 0
	if _, err := l.fleet.Rollouts().Move(ctx, o, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l.wantBatch("1 released: waiting waiting")
	l.fleet.Rollouts().Advance(t.Context())
	l.wantBatch("1 released: pending pending")
}

// TestBatchUndoneInPart: when whoever undoes a batch ends in the middle, it is known what is
// left, and saying it again goes on.
func TestBatchUndoneInPart(t *testing.T) {
	l, at := pairLab(t)
	o := canary()
	o.First = 0
	_, err := l.fleet.Rollouts().Move(t.Context(), o, nil)
	must(t, err)
	for s := range at {
		l.comesUp(at, s, true)
	}
	l.wantBatch("1 done: good good")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.fleet.Rollouts().Undo(ctx, 1, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l.restart()
	if u := l.unfinished(); len(u) != 1 || u[0].State != batch.Undone || len(u[0].Left) != 2 {
		t.Errorf("unfinished: %+v", u)
	}
	for range 2 {
		_, err := l.fleet.Rollouts().Undo(t.Context(), 1, nil)
		must(t, err)
		l.wantBatch("1 undone: undoing undoing")
		if u := l.unfinished(); len(u) > 0 {
			t.Errorf("unfinished: %+v", u)
		}
	}
	for s := range at {
		if got := l.comesUp(at, s, true); got != "one" {
			t.Errorf("undone, %s boots %q", s, got)
		}
	}
}
