package boot

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/config/device"
	"rubus/overlay"
)

// tick is how often Run looks after the boards.
const tick = 5 * time.Second

// Run looks after the boards until ctx ends: it tries again what failed,
// proves boards down, gives up roots that are quiet, and lets go of boards
// whose entry is gone. It unmounts nothing when it ends.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.stopOnce.Do(func() { close(f.stopped) })
	if f.Sweep(ctx) != nil {
		return nil
	}
	var beside sync.WaitGroup
	beside.Go(func() { f.quotas.Run(ctx) })
	if f.traits.Unasked {
		beside.Go(func() { f.followAll(ctx) })
	}
	defer beside.Wait()
	return f.lookAfter(ctx)
}

// Sweep ends what a crash left half done; what cannot be, is in the log. Its
// error is that of ctx.
func (f *Fleet) Sweep(ctx context.Context) error {
	for _, b := range f.all() {
		if err := b.work.Lock(ctx); err != nil {
			return err
		}
		if err := f.sweep(ctx, b); err != nil {
			f.log.Warn("a board's leftovers cannot be removed", "serial", b.serial, "err", err)
		}
		b.work.Unlock()
	}
	return nil
}

// lookAfter is what Run does when all is swept.
func (f *Fleet) lookAfter(ctx context.Context) error {
	t := time.NewTicker(tick)
	var expired time.Time
	defer t.Stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			f.LookAfter(ctx)
			// It reads trees: the boards are looked after meanwhile.
			wait.Go(func() { f.rollouts.Advance(ctx) })
			if now := f.opt.Now(); now.Sub(expired) >= time.Hour {
				expired = now
				f.Expire(ctx)
			}
		}
	}
}

// Expire removes snapshots whose time is over.
func (f *Fleet) Expire(ctx context.Context) {
	for _, b := range f.all() {
		f.expire(ctx, b)
	}
}

// LookAfter is one round of what Run does.
func (f *Fleet) LookAfter(ctx context.Context) {
	boards := f.all()
	_ = f.ballast.Fill() // Start has told what is wrong
	f.checkAddresses(ctx, boards)
	for _, b := range boards {
		if ctx.Err() != nil {
			return
		}
		f.retry(ctx, b)
		now := f.opt.Now()
		e := b.evidence()
		// A proof of silence is renewed before it runs out.
		if up := e.Up(now, f.opt.Limits); e.HasRoot && (up == phase.UpUnknown || up == phase.UpNo && e.Silence(now) > f.opt.Limits.Boot/2) {
			f.probe(b)
		}
		f.progress(b, &e)
		f.judgeGood(b)
		f.noteHang(b, now)
		f.retire(ctx, b, now)
		if f.isOrphan(b) && e.HasRoot && e.Up(now, f.opt.Limits) == phase.UpNo {
			f.letGo(ctx, b)
		}
	}
	f.doubt() // after retry: what it found readable is published by now
	f.forget()
}

// isOrphan says that no enabled entry of devices.yaml stands behind a board.
func (f *Fleet) isOrphan(b *board) bool {
	dev := f.wanted(b.serial)
	return dev == nil || !dev.Enabled
}

// forget drops unknown boards that came to nothing.
func (f *Fleet) forget() {
	now := f.opt.Now()
	for _, b := range f.all() {
		b.mu.Lock()
		idle := len(b.rec.Slots) == 0 && !f.disk(b.serial).HasSnapshots() && b.broken == nil && now.Sub(phase.Later(b.made, phase.Later(b.ev.DHCP, b.ev.TFTP))) > 30*time.Minute
		b.mu.Unlock()
		if !idle || !b.work.TryLock() {
			continue
		}
		f.mu.Lock()
		if f.desired.device(b.serial) == nil {
			delete(f.boards, b.serial)
		}
		f.mu.Unlock()
		b.work.Unlock()
	}
}

// retry mounts again what could not be mounted at start.
func (f *Fleet) retry(ctx context.Context, b *board) {
	if b.usable() != nil && !f.reread(b) {
		return
	}
	rec := b.record()
	missing := false
	for _, s := range rec.Offered() {
		missing = missing || b.isMissing(s)
	}
	if !missing {
		return
	}
	if !b.work.TryLock() {
		return
	}
	err := f.restoreLocked(ctx, b)
	b.work.Unlock()
	if err != nil {
		b.setProblem(err.Error())
		return
	}
	b.setProblem("")
	f.log.Info("root ready after all", "serial", b.serial)
}

// retire gives up roots that the board left, once they are quiet, and prepared
// ones that no boot came for. An upper with persistent writes stays.
func (f *Fleet) retire(ctx context.Context, b *board, now time.Time) {
	for _, s := range b.slots() {
		if !f.isDue(b, s, now) {
			continue
		}
		if !b.work.TryLock() {
			return
		}
		f.retireSlot(ctx, b, s, now)
	}
}

// retireSlot gives a slot up if that is due, and lets go of work.
func (f *Fleet) retireSlot(ctx context.Context, b *board, s record.Slot, now time.Time) {
	defer b.work.Unlock()
	rec := b.record()
	if cur := rec.Slot(s.N); cur == nil || cur.State != s.State || !f.isDue(b, *cur, now) {
		return // it changed meanwhile
	}
	if s.Aside != "" {
		if err := f.keepAside(ctx, b, s); err != nil {
			f.log.Warn("a board's earlier writes are not set aside yet", "serial", b.serial, "root", s.N, "err", err)
		}
		return
	}
	if s.State == record.SlotParked {
		f.rest(b, s)
		return
	}
	if b.isTried(&rec, s.N) {
		return
	}
	if !s.Ephemeral && !rec.Offers(s.N) {
		// Nothing may be written, and acknowledged, between the look and the removal.
		if err := f.opt.Exporter.Withdraw(s.Export); err != nil {
			f.log.Warn("a root that was left is still exported", "serial", b.serial, "root", s.N, "err", err)
			return
		}
		// Written to after all: keep it.
		if empty, err := f.disk(b.serial).IsEmpty(s); err != nil || !empty {
			rec.Slot(s.N).State = record.SlotParked
			if err := f.store(b, rec); err != nil {
				f.log.Error("a board's record cannot be written", "serial", b.serial, "err", err)
				return
			}
			f.rest(b, s)
			return
		}
	}
	// Unmounted first: a root that is busy stays in the record and is tried again.
	if err := f.release(b, s); err != nil {
		f.log.Warn("a root that was left stays for now", "serial", b.serial, "root", s.N, "err", err)
		return
	}
	rec.Drop(s.N)
	if err := f.store(b, rec); err != nil {
		f.log.Error("a board's record cannot be written", "serial", b.serial, "err", err)
		return
	}
	f.discard(b, s)
	f.log.Info("earlier root removed", "serial", b.serial, "root", s.N)
}

// rest ends the export of a parked root and unmounts it; its upper stays.
func (f *Fleet) rest(b *board, s record.Slot) {
	if err := f.release(b, s); err != nil {
		f.log.Warn("a root that was left stays mounted", "serial", b.serial, "root", s.N, "err", err)
		return
	}
	f.log.Info("earlier root kept, and not offered any more", "serial", b.serial, "root", s.N)
}

// isDue says whether a slot may be given up now.
func (f *Fleet) isDue(b *board, s record.Slot, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Aside != "" && (!b.rec.Up || b.atRest[s.N]) {
		return true
	}
	switch s.State {
	case record.SlotOld, record.SlotParked:
		if s.State == record.SlotParked && b.atRest[s.N] {
			return false
		}
		// The board lives on its new root: who only asked for it, with the
		// board's address, never gets the handle to call with.
		if !f.isCalledOn(b, b.rec.InState(record.SlotCurrent)) {
			return false
		}
		last := phase.Later(s.Retired, f.started)
		if a := b.activity[s.N]; a != nil {
			last = phase.Later(last, unixNano(a.LastCall.Load()))
		}
		return now.Sub(last) > f.opt.Limits.Quiet
	case record.SlotNext:
		last := phase.Later(phase.Later(b.ev.DHCP, b.ev.TFTP), phase.Later(s.Made, f.started))
		if a := b.activity[s.N]; a != nil { // called on without a MOUNT that was taken
			last = phase.Later(last, unixNano(a.LastCall.Load()))
		}
		return s.Mounted.IsZero() && now.Sub(last) > 30*time.Minute
	}
	return false
}

// letGo ends the exports of a board that is down and has no entry any more.
func (f *Fleet) letGo(ctx context.Context, b *board) {
	if !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	// Looked at again now that nothing can change: it may boot, or be back.
	if !f.isOrphan(b) || !f.isDown(ctx, b) {
		return
	}
	if err := f.cutOff(b); err != nil {
		f.log.Warn("a board whose entry is gone cannot be let go yet", "serial", b.serial, "err", err)
	}
}

// probe asks the board for a sign of life, in the background, once at a time.
func (f *Fleet) probe(b *board) {
	b.mu.Lock()
	addr, mac := b.rec.Address, b.rec.MAC
	busy := b.probing || !addr.IsValid()
	if !busy {
		b.probing = true
	}
	b.mu.Unlock()
	if busy {
		return
	}
	go func() {
		f.ask(context.Background(), b, addr, mac)
		b.mu.Lock()
		b.probing = false
		b.mu.Unlock()
	}()
}

// ask asks a board for a sign of life and notes what came of it. It blocks for
// seconds.
func (f *Fleet) ask(ctx context.Context, b *board, addr netip.Addr, mac device.MAC) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	begin := f.opt.Now()
	silent, err := f.opt.Neighbours.Silent(ctx, addr, mac)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil: // nobody can tell: unknown counts as up
	case silent:
		b.ev.Silent = phase.Later(b.ev.Silent, begin)
	default:
		b.ev.Answered, b.ev.Silent = f.opt.Now(), time.Time{}
	}
}

// isDown says whether a board is down now, for what cannot be undone: an older
// proof is renewed first. It blocks for seconds. The caller holds work, so the
// board cannot mount meanwhile.
func (f *Fleet) isDown(ctx context.Context, b *board) bool {
	e := b.evidence()
	up := e.Up(f.opt.Now(), f.opt.Limits)
	if !e.HasRoot || up == phase.UpYes {
		return up == phase.UpNo
	}
	rec := b.record()
	if !rec.Address.IsValid() {
		return false
	}
	f.ask(ctx, b, rec.Address, rec.MAC)
	e = b.evidence()
	return e.Up(f.opt.Now(), f.opt.Limits) == phase.UpNo
}

// reread tries again to read a record that could not be read at the start.
func (f *Fleet) reread(b *board) bool {
	rec, err := record.Load(f.opt.State, b.serial)
	if err != nil {
		return false
	}
	b.mu.Lock()
	b.rec, b.broken, b.problem = rec, nil, ""
	if cur := rec.InState(record.SlotCurrent); rec.Up && cur != nil {
		b.ev.Mounted, b.ev.Adopted = cur.Mounted, true
	}
	b.mu.Unlock()
	return true
}

// sweep finishes removals that a crash cut short, and names directories
// that no slot of the board accounts for: nothing that may hold writes is
// removed without being asked.
func (f *Fleet) sweep(ctx context.Context, b *board) error {
	u := f.uppers(b.serial)
	if err := u.Sweep(ctx); err != nil {
		return err
	}
	ids, err := u.List()
	if err != nil {
		return err
	}
	known := map[overlay.UpperID]bool{}
	for _, s := range b.slots() {
		known[s.UpperID()] = true
	}
	if err := f.disk(b.serial).SweepSnapshots(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		if known[id] {
			f.disk(b.serial).Recorded(id)
			continue
		}
		done, err := f.disk(b.serial).Finish(ctx, id)
		if err != nil {
			return err
		}
		if !done {
			f.log.Warn("an upper that device.json does not name is left alone", "serial", b.serial, "upper", u.Path(id))
		}
	}
	return nil
}
