package boot_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/batch"
	"rubus/boot/record"
	"rubus/boot/rollout"
	"rubus/boot/sighting"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
	"rubus/nfsexport"
)

// pairLab is a lab with two boards that report their boots, run and have written; lab@2 is there.
func pairLab(t *testing.T) (l *lab, at map[device.Serial]pair) {
	t.Helper()
	l = newLab(t)
	l.opt.FallbackAfter = 1
	l.want.Devices[serialB] = &boot.Device{Serial: serialB, Image: imageref.Ref{Name: "lab"}, Enabled: true}
	l.importImage("two", "boot/firmware/kernel8.img", "kernel one")
	for _, d := range l.want.Devices {
		d.Image.Version = 1
	}
	l.restart()
	at = map[device.Serial]pair{}
	for s, p := range map[device.Serial]pair{serialA: {mac: macA}, serialB: {mac: macB}} {
		x := l.boots(s, p.mac, addressOf(s))
		put(t, x.Dir, unit, "")
		put(t, x.Dir, "mine", "precious")
		at[s] = p
		l.comesUp(at, s, true)
	}
	return l, at
}

type pair struct {
	mac device.MAC
	x   nfsexport.Export
}

// comesUp boots a board; good says whether it reports that.
func (l *lab) comesUp(at map[device.Serial]pair, s device.Serial, good bool) string {
	l.Helper()
	p := at[s]
	p.x = l.boots(s, p.mac, addressOf(s))
	at[s] = p
	l.fleet.Fetched(s, "kernel8.img")
	if got := l.read(p.x, "mine"); got != "precious" {
		l.Fatalf("/mine of %s is %q", s, got)
	}
	if good {
		st, _ := l.fleet.Board(s)
		put(l.T, p.x.Dir, "var/lib/rubus/booted", st.Boot.ID+"\n")
		l.calls(p.x)
		l.fleet.LookAfter(l.Context())
		l.fleet.Rollouts().Advance(l.Context())
	}
	return l.golden(p.x)
}

func addressOf(s device.Serial) netip.Addr {
	if s == serialA {
		return addrA
	}
	return addrB
}

// batchLine is a batch in a line.
func (l *lab) batchLine() string {
	l.Helper()
	all := l.fleet.Rollouts().Batches()
	if len(all) == 0 {
		return ""
	}
	b := all[len(all)-1]
	var states []string
	for _, m := range b.Members {
		states = append(states, m.State)
	}
	return fmt.Sprintf("%d %s: %s", b.N, b.State, strings.Join(states, " "))
}

func (l *lab) wantBatch(want string) {
	l.Helper()
	if got := l.batchLine(); got != want {
		l.Errorf("the batch is %q, want %q", got, want)
	}
}

func canary() rollout.Order {
	return rollout.Order{Boards: []device.Serial{serialA, serialB}, To: two().To, First: 1}
}

// TestBatch moves a canary and, when that is good, the other; then both back.
func TestBatch(t *testing.T) {
	l, at := pairLab(t)
	b, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil)
	if err != nil || b.N != 1 || b.State != batch.Canaries {
		t.Fatalf("%+v, %v", b, err)
	}
	l.wantBatch("1 canaries: pending waiting")
	if got := l.comesUp(at, serialB, true); got != "one" {
		t.Errorf("the board that waits boots %q", got)
	}
	l.restart()
	l.wantBatch("1 canaries: pending waiting")
	if got := l.comesUp(at, serialA, false); got != "two" {
		t.Errorf("the canary boots %q", got)
	}
	l.fleet.Rollouts().Advance(t.Context())
	l.wantBatch("1 canaries: trial waiting")
	st, _ := l.fleet.Board(serialA)
	put(t, at[serialA].x.Dir, "var/lib/rubus/booted", st.Boot.ID+"\n")
	l.calls(at[serialA].x)
	l.fleet.LookAfter(t.Context())
	l.restart() // killed before the rest is released
	l.fleet.Rollouts().Advance(t.Context())
	l.wantBatch("1 released: good pending")
	l.fleet.Rollouts().Advance(t.Context())
	if got := l.comesUp(at, serialB, true); got != "two" {
		t.Errorf("released, the other boots %q", got)
	}
	l.wantBatch("1 done: good good")
	for range 2 {
		if b, err = l.fleet.Rollouts().Undo(t.Context(), 1, nil); err != nil || b.State != batch.Undone {
			t.Fatalf("%+v, %v", b, err)
		}
		l.wantBatch("1 undone: undoing undoing")
	}
	for s := range at {
		if got := l.comesUp(at, s, true); got != "one" {
			t.Errorf("undone, %s boots %q", s, got)
		}
	}
	l.wantBatch("1 undone: undone undone")
	if b, err = l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil || b.N != 2 {
		t.Errorf("again: %+v, %v", b, err)
	}
	if _, err := l.fleet.Rollouts().Undo(t.Context(), 2, nil); err != nil {
		t.Error(err)
	}
	l.wantBatch("2 undone: undone dropped")
}

// A batch that is undone while one of its boards is copied moves none of them.
func TestBatchUndoneWhileItCopies(t *testing.T) {
	l, at := pairLab(t)
	for s := range at {
		must(t, l.fleet.Stop(t.Context(), s))
	}
	undone := false
	order := canary()
	order.First = 0
	_, err := l.fleet.Rollouts().Move(t.Context(), order, func(upper.Size) {
		if !undone {
			undone = true
			_, err := l.fleet.Rollouts().Undo(t.Context(), 1, nil)
			must(t, err)
		}
	})
	must(t, err)
	if !undone {
		t.Fatal("nothing was copied")
	}
	l.wantBatch("1 undone: dropped dropped")
	for s := range at {
		if got := l.comesUp(at, s, true); got != "one" {
			t.Errorf("%s boots %q", s, got)
		}
	}
}

// TestBatchStops: a canary that goes back keeps the rest where they are.
func TestBatchStops(t *testing.T) {
	l, at := pairLab(t)
	if _, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil {
		t.Fatal(err)
	}
	if got := l.comesUp(at, serialA, false); got != "two" {
		t.Errorf("the canary boots %q", got)
	}
	if got := l.comesUp(at, serialA, true); got != "one" {
		t.Errorf("not good, and it boots %q", got)
	}
	l.wantBatch("1 stopped: back dropped")
	if b := l.fleet.Rollouts().Batches()[0]; !strings.Contains(b.Why, "went back: it booted there once and was not reported as good") {
		t.Errorf("why: %q", b.Why)
	}
	if got := l.comesUp(at, serialB, true); got != "one" {
		t.Errorf("the rest boots %q", got)
	}
	// All at once: the first that goes back stops what is still to come.
	o := canary()
	o.First = 0
	if _, err := l.fleet.Rollouts().Move(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	l.wantBatch("2 released: pending pending")
	l.comesUp(at, serialA, false)
	l.comesUp(at, serialA, true)
	l.wantBatch("2 stopped: back undone")
	if got := l.comesUp(at, serialB, true); got != "one" {
		t.Errorf("recalled, and it boots %q", got)
	}
}

// A batch whose canaries cannot report is released by hand.
func TestBatchReleasedByHand(t *testing.T) {
	l, at := pairLab(t)
	if _, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.fleet.Rollouts().Release(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		l.wantBatch("1 released: pending pending")
	}
	if got := l.comesUp(at, serialB, true); got != "two" {
		t.Errorf("it boots %q", got)
	}
}

// A daemon that is killed while it moves boards, at any step, is followed by one that goes on.
func TestBatchKilled(t *testing.T) {
	for kill, whole := 0, false; !whole && !t.Failed(); kill++ {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			l, at := pairLab(t)
			for s := range at {
				must(t, l.fleet.Stop(t.Context(), s))
			}
			o := canary()
			o.First = 0
			last := l.killedAfter(kill, func() error {
				_, err := l.fleet.Rollouts().Move(t.Context(), o, nil)
				return err
			})
			whole = last == ""
			l.fleet.Rollouts().Advance(t.Context())
			if kill == 0 {
				l.wantBatch("1 released: pending pending")
			}
			for s := range at {
				if got := l.comesUp(at, s, true); got != "two" {
					t.Errorf("killed at %q: %s boots %q", last, s, got)
				}
			}
			l.wantBatch("1 done: good good")
			if litter := l.litter(); len(litter) > 0 {
				t.Errorf("killed at %q: left behind %q", last, litter)
			}
			l.clock.add(time.Second)
			if got, err := filepath.Glob(filepath.Join(l.opt.State, "batches", "*")); err != nil || len(got) != 1 {
				t.Errorf("%q, %v", got, err)
			}
			if whole && kill < 3 {
				t.Errorf("to move two boards takes %d steps", kill)
			}
		})
	}
}

// TestBatchOfABoardThatHangs: a canary that never comes up stops its batch, is told of, and
// is good after all when it says so.
func TestBatchOfABoardThatHangs(t *testing.T) {
	l, at := pairLab(t)
	l.opt.GoodWithin = 30 * time.Minute
	l.restart()
	if _, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil {
		t.Fatal(err)
	}
	if got := l.comesUp(at, serialA, false); got != "two" {
		t.Errorf("the canary boots %q", got)
	}
	look := func(after time.Duration) *record.Move {
		l.clock.add(after)
		l.fleet.LookAfter(t.Context())
		l.fleet.Rollouts().Advance(t.Context())
		st, _ := l.fleet.Board(serialA)
		return st.Move
	}
	if m := look(29 * time.Minute); m.State != record.MoveTrial || !m.Overdue.IsZero() {
		t.Errorf("it may be up soon: %+v", m)
	}
	l.wantBatch("1 canaries: trial waiting")
	l.restart() // of which the board knows nothing: it has the time again
	if m := look(29 * time.Minute); !m.Overdue.IsZero() {
		t.Errorf("right after a restart: %+v", m)
	}
	m := look(2 * time.Minute)
	if m.State != record.MoveTrial || m.Overdue.IsZero() || !strings.Contains(m.Why, "is not reported as good after 30m") {
		t.Errorf("it hangs: %+v", m)
	}
	l.wantBatch("1 stopped: trial dropped")
	if all := l.fleet.Rollouts().Batches(); !strings.Contains(all[0].Why, serialA.String()+" is on trial: its boot") {
		t.Errorf("the batch says %q", all[0].Why)
	}
	if got := l.comesUp(at, serialB, true); got != "one" {
		t.Errorf("the board that waited boots %q", got)
	}
	st, _ := l.fleet.Board(serialA)
	put(t, at[serialA].x.Dir, "var/lib/rubus/booted", st.Boot.ID+"\n")
	l.calls(at[serialA].x)
	if m := look(time.Minute); m.State != record.MoveGood || !m.Overdue.IsZero() || m.Why != "" {
		t.Errorf("it came up after all: %+v", m)
	}
}

// TestTrialThatNeverMounts: a kernel that does not come to its root hangs as well, however long
// nobody looks after the board, and the boot counts as failed when the next begins.
func TestTrialThatNeverMounts(t *testing.T) {
	for _, within := range []time.Duration{0, 30 * time.Minute} {
		l, at := pairLab(t)
		l.opt.GoodWithin = within
		l.restart()
		if _, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil {
			t.Fatal(err)
		}
		l.clock.add(time.Minute)
		l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
		if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
			t.Fatal(err)
		}
		l.fleet.Fetched(serialA, "kernel8.img")
		for range 4 {
			l.clock.add(20 * time.Minute)
			l.fleet.LookAfter(t.Context())
			l.fleet.Rollouts().Advance(t.Context())
		}
		st, _ := l.fleet.Board(serialA)
		if st.Move.State != record.MoveTrial || st.Move.Overdue.IsZero() != (within == 0) {
			t.Errorf("after 80 minutes: %+v", st.Move)
		}
		if got := l.comesUp(at, serialA, true); got != "one" {
			t.Errorf("the next boot is on %q", got)
		}
		l.fleet.Rollouts().Advance(t.Context())
		l.wantBatch("1 stopped: back dropped")
	}
}

// TestTrialThatNobodyBegan: while a board runs on what it had, a boot that somebody began in
// its name does not hang.
func TestTrialThatNobodyBegan(t *testing.T) {
	l, at := pairLab(t)
	l.opt.GoodWithin = 10 * time.Minute
	l.restart()
	if _, err := l.fleet.Rollouts().Move(t.Context(), canary(), nil); err != nil {
		t.Fatal(err)
	}
	l.clock.add(time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
		t.Fatal(err)
	}
	l.fleet.Fetched(serialA, "kernel8.img")
	l.clock.add(20 * time.Minute)
	former, _ := l.exp.get(at[serialA].x.ID)
	former.Activity.LastCall.Store(l.clock.now().UnixNano())
	l.fleet.LookAfter(t.Context())
	if st, _ := l.fleet.Board(serialA); st.Move.State != record.MoveTrial || !st.Move.Overdue.IsZero() {
		t.Errorf("it runs on: %+v", st.Move)
	}
}
