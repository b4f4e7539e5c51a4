package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rubus/boot/attempt"
	"rubus/boot/carry"
	"rubus/boot/record"
)

// atOnce bounds the uppers that are made for boots at a time: a site's boards may all
// begin to boot in the same second.
const atOnce = 2

// beginMove does what a board's move asks for when a boot of the board begins: it judges
// the boot before, and makes the upper that this one is to try, or brings back what
// the board had. When that cannot be, the board boots what it has, and the move says
// why. The caller holds work. It blocks while it copies; the error is that of a daemon that ends.
func (f *Fleet) beginMove(ctx context.Context, b *board, dev *Device) error {
	if m := b.record().Move; m == nil || m.IsOver() || dev.Ephemeral || b.usable() != nil {
		return nil
	}
	if !f.isResumed(b) {
		f.judgeLast(b)
	}
	// The firmware asks anew while it waits; what is done for the first request is for all.
	ctx, cancel := f.untilStopped(ctx)
	defer cancel()
	rec := b.record()
	if rec.Move.State == record.MoveTrial && f.isStale(ctx, b, &rec) {
		if err := f.dropOffer(b, rec); err != nil {
			return err
		}
	}
	var err error
	switch b.record().Move.State {
	case record.MovePending:
		if !f.mayLeave(b) {
			return nil
		}
		err = f.workOut(ctx, b)
	case record.MoveUndoing:
		err = f.bringBack(ctx, b)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrBoots) { // it runs on what it has, for now
		return ctx.Err()
	}
	return f.giveUpMove(b, err)
}

// untilStopped is a context that outlives a request, and ends with the daemon.
func (f *Fleet) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		select {
		case <-f.stopped:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// mayLeave says that a board which asks to boot is no longer on its root, as far as that
// can be told before it mounts another.
func (f *Fleet) mayLeave(b *board) bool {
	who := f.binding(b)
	return who.MayLeave()
}

// workOut makes the upper of a pending move, which the boot that begins is to try.
func (f *Fleet) workOut(ctx context.Context, b *board) error {
	select {
	case f.carrying <- struct{}{}:
		defer func() { <-f.carrying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	m := *b.record().Move
	begun := f.opt.Now()
	out, err := f.carry(ctx, b, m, false, nil)
	if errors.Is(err, carry.ErrChanged) || errors.Is(err, ErrBoots) {
		if !b.hasTold(f.opt.Now(), "not moved: it runs") {
			f.log.Warn("a board is not moved yet", "serial", b.serial, "to", m.To, "why", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	f.moved(b, fmt.Sprintf("what the board wrote over %s was carried over to %s in %s: %d kept, %d dropped, %d conflicts",
		out.From, out.To, f.opt.Now().Sub(begun).Round(time.Millisecond), out.Kept, out.Dropped, out.Clashed))
	return nil
}

// giveUpMove notes that a move cannot be made. The board has what it had.
func (f *Fleet) giveUpMove(b *board, why error) error {
	rec := b.record()
	rec.Move.Enter(record.MoveFailed, why.Error(), f.opt.Now())
	if rec.Move.Snapshot != 0 || rec.Move.Former != 0 { // it was to be undone: it may be asked for again
		rec.Move.State = record.MoveMade
		if rec.Move.Reports {
			rec.Move.State = record.MoveGood
		}
	}
	if err := f.store(b, rec); err != nil {
		return err
	}
	f.log.Error("a board cannot be moved; it boots what it has", "serial", b.serial, "to", rec.Move.To, "err", why)
	f.moved(b, fmt.Sprintf("the board is not moved to %s: %v", rec.Move.To, why))
	return nil
}

// moved tells of a step of a move.
func (f *Fleet) moved(b *board, text string) {
	f.tell(Event{Serial: b.serial, Kind: "rebased", Text: text})
}

// isStale says that the board has written to what it had since the slot on trial was made
// of it. Then it never left, and must not stand on the copy.
func (f *Fleet) isStale(ctx context.Context, b *board, rec *record.Record) bool {
	m := rec.Move
	former := rec.Slot(m.Former)
	if !rec.IsOffer() || former == nil || !rec.IsOn(former) {
		return false
	}
	newest, err := f.uppers(b.serial).Changed(ctx, former.UpperID())
	if err != nil {
		f.log.Warn("it cannot be told whether a board wrote since", "serial", b.serial, "err", err)
		return true
	}
	return newest.After(m.Written)
}

// isOutdated is isStale for each file request: it looks only when the board called on what
// it had. The caller holds work.
func (f *Fleet) isOutdated(b *board, s record.Slot) bool {
	rec := b.record()
	if !rec.Offers(s.N) {
		return false
	}
	calls := b.callsOn(rec.Move.Former)
	b.mu.Lock()
	same := b.looked == calls
	b.looked = calls
	b.mu.Unlock()
	return !same && f.isStale(context.Background(), b, &rec)
}

// callsOn is how many calls a slot had.
func (b *board) callsOn(n int) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.activity[n]; a != nil {
		return a.Calls.Load()
	}
	return 0
}

// dropOffer takes back a slot that was made for a move and that no boot mounted: the
// move is pending again.
func (f *Fleet) dropOffer(b *board, rec record.Record) error {
	s := *rec.Slot(rec.Move.Slot)
	rec.Drop(s.N)
	if err := f.store(b, rec); err != nil {
		return err
	}
	f.discard(b, s)
	return nil
}

// rejectTrial takes a board back before it boots what it is to try: its root cannot be
// offered, or its own boot files cannot be given out. It says whether it did.
func (f *Fleet) rejectTrial(b *board, s record.Slot, c *attempt.Boot, err error) bool {
	rec := b.record()
	if m := rec.Move; m == nil || m.State != record.MoveTrial || s.N == 0 || m.Slot != s.N {
		return false
	}
	why := ""
	switch {
	case err != nil && s.Mounted.IsZero():
		why = err.Error()
	case err != nil:
		return false // it may have been for now
	case c.Err != nil, c.LastGood:
		why = "its boot files: " + c.Why
	default:
		f.noteReports(b, rec)
		return false
	}
	rec.TakeBack(record.MoveBack, why, f.opt.Now())
	return f.storeMove(b, rec)
}

// noteReports takes note of whether the root on trial reports its boots: the mounted one
// is looked at more closely than its files were.
func (f *Fleet) noteReports(b *board, rec record.Record) {
	reports := b.boots().Last().Reports
	if rec.Move.Reports != reports {
		rec.Move.Reports = reports
		f.storeMove(b, rec)
	}
}

// storeMove writes down a changed move and tells of it when the board went back. What
// cannot be written is in the log, and is not so.
func (f *Fleet) storeMove(b *board, rec record.Record) bool {
	if err := f.store(b, rec); err != nil {
		f.log.Error("a board's move cannot be written down", "serial", b.serial, "err", err)
		return false
	}
	switch m := rec.Move; m.State {
	case record.MoveBack:
		f.log.Error("a board goes back to what it had", "serial", b.serial, "from", m.To, "to", m.From, "why", m.Why)
		f.moved(b, fmt.Sprintf("the board goes back from %s to %s: %s", m.To, m.From, m.Why))
	case record.MoveGood:
		f.log.Info("a board has moved", "serial", b.serial, "to", m.To)
		f.moved(b, fmt.Sprintf("the board has moved to %s: its boot was good", m.To))
	}
	return true
}

// judgeLast judges the board's last boot, which is over, and with it the trial that it
// was of, once. The caller holds work.
func (f *Fleet) judgeLast(b *board) {
	judged := b.boots().Last().Ended
	f.endBoot(b)
	last := b.boots().Last()
	rec := b.record()
	if good := !last.Good.IsZero(); (good || !judged) && rec.Judge(last.Slot, good, last.Failed(), f.opt.FallbackAfter, f.opt.Now()) {
		f.storeMove(b, rec)
	}
}

// judgeGood ends a trial whose boot was reported as good.
func (f *Fleet) judgeGood(b *board) {
	rec := b.record()
	if rec.Move == nil || rec.Move.State != record.MoveTrial || !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	last := b.boots().Last()
	rec = b.record()
	if !last.Good.IsZero() && rec.Move != nil && rec.Judge(last.Slot, true, false, 0, f.opt.Now()) {
		f.storeMove(b, rec)
	}
}

// keepAside makes a snapshot of a slot that is to be one and that nothing stands on any
// more, or removes it when no board ever mounted it. The caller holds work.
func (f *Fleet) keepAside(ctx context.Context, b *board, s record.Slot) error {
	isEmpty, err := f.disk(b.serial).IsEmpty(s)
	if err != nil {
		return err
	}
	if err := f.release(b, s); err != nil {
		return err
	}
	rec := b.record()
	if isEmpty || s.Mounted.IsZero() && rec.Move != nil && rec.Move.Slot == s.N {
		rec.Drop(s.N)
		if err := f.store(b, rec); err != nil {
			return err
		}
		f.discard(b, s)
		return nil
	}
	n, err := f.mark(ctx, b, s, s.Aside)
	if err != nil {
		return err
	}
	f.step(stepIntended)
	if rec.Move != nil {
		rec.Move.Gone(s.N, n)
	}
	rec.Drop(s.N)
	if err := f.store(b, rec); err != nil {
		return err
	}
	f.step(stepRecorded)
	err = f.disk(b.serial).KeepMarked(s.UpperID())
	f.step(stepMoved)
	b.mu.Lock()
	delete(b.atRest, s.N)
	b.mu.Unlock()
	if err == nil {
		f.log.Info("a board's earlier writes are set aside", "serial", b.serial, "snapshot", n, "note", s.Aside)
	}
	return err
}

// keepAllAside is keepAside for all slots that nothing stands on now.
func (f *Fleet) keepAllAside(ctx context.Context, b *board) error {
	var errs []error
	for _, s := range b.slots() {
		if s.Aside != "" && !b.record().Up {
			errs = append(errs, f.keepAside(ctx, b, s))
		}
	}
	return errors.Join(errs...)
}
