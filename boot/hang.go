package boot

import (
	"fmt"
	"time"

	"rubus/boot/bootset"
	"rubus/boot/phase"
	"rubus/boot/record"
)

// noteHang takes note that a board on trial hangs, or does not say that it came up: whoever
// waits for it is to know.
func (f *Fleet) noteHang(b *board, now time.Time) {
	last, ok := f.hangs(b, now)
	if !ok || !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	if last, ok = f.hangs(b, now); !ok {
		return
	}
	rec := b.record()
	if !rec.Hangs(last.Slot, phase.Later(last.Begun, f.started), f.opt.GoodWithin, now) || !f.storeMove(b, rec) {
		return
	}
	f.log.Error("a board on trial has no good boot", "serial", b.serial, "to", rec.Move.To, "why", rec.Move.Why)
	f.moved(b, fmt.Sprintf("the board is on trial of %s: %s", rec.Move.To, rec.Move.Why))
}

// hangs says that the boot on trial is overdue, and gives it.
func (f *Fleet) hangs(b *board, now time.Time) (last bootset.Attempt, ok bool) {
	rec := b.record()
	if rec.Move == nil || rec.Move.State != record.MoveTrial || !rec.Move.Overdue.IsZero() {
		return last, false
	}
	if last = b.boots().Last(); last.ID == "" || last.Ended || !last.Good.IsZero() {
		return last, false
	}
	if b.runsOn(rec.Move, last) {
		return last, false
	}
	return last, rec.Hangs(last.Slot, phase.Later(last.Begun, f.started), f.opt.GoodWithin, now)
}

// runsOn says that a board on trial called on what it had since a boot began: somebody else
// asked for files in its name.
func (b *board) runsOn(m *record.Move, last bootset.Attempt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.activity[m.Former]
	return a != nil && unixNano(a.LastCall.Load()).After(last.Begun)
}

// isTried says that a board had the whole kernel of a boot on slot n, which is on trial, and
// did not mount it: the slot stays until the next boot judges that.
func (b *board) isTried(rec *record.Record, n int) bool {
	if !rec.Offers(n) {
		return false
	}
	last := b.boots().Last()
	return last.Slot == n && last.Loaded && !b.runsOn(rec.Move, last)
}
