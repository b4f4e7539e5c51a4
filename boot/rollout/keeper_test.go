package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot/record"
	"rubus/boot/rollout"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// site is boards whose moves are what a test says of them.
type site struct {
	moves map[device.Serial]*record.Move
	// cannot has why a board cannot be moved, or not be taken back.
	cannot map[device.Serial]error
	// copies is called while a board is moved, and moved when it was.
	copies, moved func()
	done          []string
}

func (s *site) Version(to imageref.Ref) (imageref.Ref, error) {
	if to.Name != "lab" {
		return to, record.ErrNotFound
	}
	to.Version = 2
	return to, nil
}

func (s *site) Rebase(_ context.Context, serial device.Serial, t rollout.Task, _ func(upper.Size)) error {
	if s.copies != nil {
		s.copies()
	}
	when := "now"
	if t.Later {
		when = "later"
	}
	s.done = append(s.done, fmt.Sprintf("move %s %s", serial, when))
	if err := s.cannot[serial]; err != nil {
		return err
	}
	s.moves[serial] = &record.Move{Batch: t.Batch, To: t.To, State: record.MovePending}
	if s.moved != nil {
		s.moved()
	}
	return nil
}

func (s *site) Undo(_ context.Context, serial device.Serial, _ func(upper.Size)) error {
	s.done = append(s.done, fmt.Sprintf("undo %s", serial))
	if err := s.cannot[serial]; err != nil {
		return err
	}
	s.moves[serial].State = record.MoveUndone
	return nil
}

func (s *site) Move(serial device.Serial) *record.Move { return s.moves[serial] }

func (s *site) Recall(_ context.Context, serial device.Serial, batch int, why string) error {
	s.done = append(s.done, fmt.Sprintf("recall %s", serial))
	if m := s.moves[serial]; m != nil && m.Batch == batch && m.State == record.MovePending {
		m.State, m.Why = record.MoveUndone, why
	}
	return nil
}

// bench is a Keeper over a site of three boards.
type bench struct {
	*testing.T
	*rollout.Keeper
	site  *site
	state string
	a     []device.Serial
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, state: t.TempDir(), site: &site{moves: map[device.Serial]*record.Move{}, cannot: map[device.Serial]error{}}}
	for _, s := range []string{"0000000a", "0000000b", "0000000c"} {
		serial, err := device.ParseSerial(s)
		if err != nil {
			t.Fatal(err)
		}
		b.a = append(b.a, serial)
	}
	b.restart()
	return b
}

// restart has a Keeper that knows what is on disk.
func (b *bench) restart() {
	b.Helper()
	b.Keeper = rollout.New(b.state, b.site, slog.New(slog.DiscardHandler), time.Now)
	if err := b.Load(); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) order(first int) {
	b.Helper()
	if _, err := b.Move(b.Context(), rollout.Order{Boards: b.a, To: imageref.Ref{Name: "lab"}, First: first}, nil); err != nil {
		b.Fatal(err)
	}
}

// want holds the last batch, and what was done to boards since the last look, against this.
func (b *bench) want(line string, done ...string) {
	b.Helper()
	all := b.Batches()
	last := all[len(all)-1]
	var states []string
	for _, m := range last.Members {
		states = append(states, m.State)
	}
	if got := fmt.Sprintf("%s: %s", last.State, strings.Join(states, " ")); got != line {
		b.Errorf("the batch is %q, want %q", got, line)
	}
	if !slices.Equal(b.site.done, done) {
		b.Errorf("done: %q, want %q", b.site.done, done)
	}
	b.site.done = nil
}

func (b *bench) becomes(i int, state record.MoveState) { b.site.moves[b.a[i]].State = state }

// TestCanaries: the rest moves when each canary was good, also with a Keeper that was not there
// when it was; what was done is not done again.
func TestCanaries(t *testing.T) {
	b := newBench(t)
	b.order(1)
	b.want("canaries: pending waiting waiting", "move 0000000a now")
	b.becomes(0, record.MoveTrial)
	b.Advance(t.Context())
	b.want("canaries: trial waiting waiting")
	b.becomes(0, record.MoveGood)
	b.restart()
	for range 2 {
		b.Advance(t.Context())
	}
	b.want("released: good pending pending", "move 0000000b later", "move 0000000c later")
	b.becomes(1, record.MoveGood)
	b.becomes(2, record.MoveFailed)
	b.want("done: good good failed")
}

// TestStops: what goes back keeps those that wait where they are, and those that are to move.
func TestStops(t *testing.T) {
	b := newBench(t)
	b.order(2)
	b.becomes(0, record.MoveBack)
	for range 2 {
		b.Advance(t.Context())
	}
	b.want("stopped: back undone dropped", "move 0000000a now", "move 0000000b now", "recall 0000000b")
	// Ordered again it is about the rest; what still is to be recalled is so first.
	b.order(0)
	b.want("released: pending pending pending", "move 0000000a now", "move 0000000b now", "move 0000000c now")
	b.becomes(1, record.MoveBack)
	b.want("stopped: pending back pending")
	b.order(0)
	b.want("released: pending pending pending", "recall 0000000a", "recall 0000000c", "move 0000000a now", "move 0000000b now", "move 0000000c now")
	b.order(0)
	b.want("done: skipped skipped skipped")
}

// TestCannotMove: who has nothing to move is passed over; who cannot is told of, and stops the
// batch if it is a canary.
func TestCannotMove(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		first int
		want  string
	}{
		"unknown":             {record.ErrNotFound, 0, "released: skipped pending pending"},
		"wrote nothing":       {writes.ErrNothing, 0, "released: skipped pending pending"},
		"is there":            {fmt.Errorf("lab@2: %w", record.ErrOnIt), 0, "released: skipped pending pending"},
		"conflicts":           {errors.New("both changed it"), 0, "released: failed pending pending"},
		"canary, unknown":     {record.ErrNotFound, 2, "canaries: skipped pending waiting"},
		"canary of conflicts": {errors.New("both changed it"), 2, "stopped: failed pending dropped"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.site.cannot[b.a[0]] = c.err
			b.order(c.first)
			b.site.done = nil
			b.want(c.want)
			if m := b.Batches()[0].Members[0]; m.Why != c.err.Error() {
				t.Errorf("why: %q", m.Why)
			}
		})
	}
}

// TestUndo takes back who moved, and goes on with those that could not be taken back.
func TestUndo(t *testing.T) {
	b := newBench(t)
	b.order(2)
	b.becomes(0, record.MoveGood)
	b.site.done = nil
	b.site.cannot[b.a[1]] = errors.New("the disk is full")
	if _, err := b.Undo(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
	b.want("undone: undone pending dropped", "undo 0000000a", "undo 0000000b")
	delete(b.site.cannot, b.a[1])
	for range 2 {
		if _, err := b.Undo(t.Context(), 1, nil); err != nil {
			t.Error(err)
		}
	}
	b.want("undone: undone undone dropped", "undo 0000000b")
	if _, err := b.Undo(t.Context(), 2, nil); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("a batch that is none: %v", err)
	}
	if _, err := b.Move(t.Context(), rollout.Order{Boards: b.a, To: imageref.Ref{Name: "gone"}}, nil); !errors.Is(err, record.ErrNotFound) || len(b.Batches()) != 1 {
		t.Errorf("to a version that is none: %v", err)
	}
}

// TestUndoneWhileItCopies: a board whose batch is undone while it is copied is taken back, by
// the next daemon if need be, which goes on until it can.
func TestUndoneWhileItCopies(t *testing.T) {
	for name, killed := range map[string]bool{"": false, "and the daemon is killed": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.site.copies = func() {
				b.site.copies = nil
				if _, err := b.Undo(t.Context(), 1, nil); err != nil {
					t.Error(err)
				}
			}
			moved := []string{"move 0000000a now", "undo 0000000a"}
			if killed {
				b.site.moved = func() { panic("killed") }
				func() {
					defer func() { _ = recover() }()
					b.order(0)
				}()
				b.restart()
				b.site.cannot[b.a[0]] = errors.New("the disk is full")
				b.Advance(t.Context())
				delete(b.site.cannot, b.a[0])
				b.Advance(t.Context())
				b.Advance(t.Context())
				moved = append(moved, "undo 0000000a")
			} else {
				b.order(0)
			}
			b.want("undone: dropped dropped dropped", moved...)
			if st := b.site.moves[b.a[0]].State; st != record.MoveUndone {
				t.Errorf("its move is %s", st)
			}
		})
	}
}

// TestReleaseAndGoOn: released by hand, a batch goes on; so does one whose caller is gone.
func TestReleaseAndGoOn(t *testing.T) {
	b := newBench(t)
	b.order(1)
	if _, err := b.Release(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.want("released: pending pending pending", "move 0000000a now", "move 0000000b later", "move 0000000c later")

	b = newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.site.copies = cancel
	_, err := b.Move(ctx, rollout.Order{Boards: b.a, To: imageref.Ref{Name: "lab"}}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.restart()
	b.Advance(t.Context())
	b.want("released: pending pending pending", "move 0000000a now", "move 0000000b later", "move 0000000c later")
}

// TestAdvanceWhileItCopies: boards that somebody is moving are left to him.
func TestAdvanceWhileItCopies(t *testing.T) {
	b := newBench(t)
	b.site.copies = func() {
		b.site.copies = nil
		b.Advance(t.Context())
	}
	b.order(0)
	b.want("released: pending pending pending", "move 0000000a now", "move 0000000b now", "move 0000000c now")
}
