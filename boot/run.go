package boot

import (
	"context"
	"time"

	"rubus/overlay"
)

// tick is how often Run looks after the boards.
const tick = 5 * time.Second

// Run looks after the boards until ctx ends: it tries again what failed,
// proves boards down, gives up roots that are quiet, and lets go of boards
// whose entry is gone. It unmounts nothing when it ends.
func (f *Fleet) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			f.LookAfter(ctx)
		}
	}
}

// LookAfter is one round of what Run does.
func (f *Fleet) LookAfter(ctx context.Context) {
	for _, b := range f.all() {
		if ctx.Err() != nil {
			return
		}
		f.retry(ctx, b)
		now := f.opt.Now()
		e := b.evidence()
		if e.HasRoot && e.Up(now, f.opt.Limits) == UpUnknown {
			f.probe(b)
		}
		f.retire(ctx, b, now)
		if dev := f.wanted(b.serial); (dev == nil || !dev.Enabled) && e.HasRoot && e.Up(now, f.opt.Limits) == UpNo {
			f.letGo(ctx, b)
		}
	}
}

// retry mounts again what could not be mounted at start.
func (f *Fleet) retry(ctx context.Context, b *board) {
	rec := b.record()
	if !rec.Up {
		return
	}
	missing := false
	for _, s := range rec.Slots {
		missing = missing || (s.State != SlotParked && !b.isMounted(s.N))
	}
	if !missing {
		return
	}
	if err := f.restore(ctx, b); err != nil {
		b.setProblem(err.Error())
		return
	}
	b.setProblem("")
	f.log.Info("root ready after all", "serial", b.serial)
}

// retire gives up roots that the board left: old ones once they are quiet, and
// prepared ones that no boot came for. An upper with persistent writes stays.
func (f *Fleet) retire(ctx context.Context, b *board, now time.Time) {
	for _, s := range b.slots() {
		if !f.isDue(b, s, now) {
			continue
		}
		if err := b.lock(ctx); err != nil {
			return
		}
		f.retireSlot(b, s, now)
		b.unlock()
	}
}

func (f *Fleet) retireSlot(b *board, s Slot, now time.Time) {
	rec := b.record()
	if cur := rec.slot(s.N); cur == nil || cur.State != s.State || !f.isDue(b, *cur, now) {
		return // it changed meanwhile
	}
	if !s.Ephemeral {
		// Written to after all: keep it.
		if empty, err := f.upperEmpty(b, s); err != nil || !empty {
			rec.slot(s.N).State = SlotParked
			if err := f.store(b, rec); err != nil {
				f.log.Error("a board's record cannot be written", "serial", b.serial, "err", err)
				return
			}
			if err := f.release(b, s); err != nil {
				f.log.Warn("a root that was left stays mounted", "serial", b.serial, "err", err)
			}
			return
		}
	}
	// Unmounted first: a root that is busy stays in the record and is tried again.
	if err := f.release(b, s); err != nil {
		f.log.Warn("a root that was left stays for now", "serial", b.serial, "root", s.N, "err", err)
		return
	}
	rec.drop(s.N)
	if err := f.store(b, rec); err != nil {
		f.log.Error("a board's record cannot be written", "serial", b.serial, "err", err)
		return
	}
	f.discard(b, s)
	f.log.Info("earlier root removed", "serial", b.serial, "root", s.N)
}

// isDue says whether a slot may be given up now.
func (f *Fleet) isDue(b *board, s Slot, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s.State {
	case SlotOld:
		last := later(s.Retired, f.started)
		if a := b.activity[s.N]; a != nil {
			last = later(last, unixNano(a.LastCall.Load()))
		}
		return now.Sub(last) > f.opt.Limits.Quiet
	case SlotNext:
		last := later(later(b.ev.DHCP, b.ev.TFTP), later(s.Made, f.started))
		return s.Mounted.IsZero() && now.Sub(last) > 30*time.Minute
	}
	return false
}

// letGo ends the exports of a board that is down and has no entry any more.
func (f *Fleet) letGo(ctx context.Context, b *board) {
	if err := b.lock(ctx); err != nil {
		return
	}
	defer b.unlock()
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
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begin := f.opt.Now()
		silent, err := f.opt.Neighbours.Silent(ctx, addr, mac)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.probing = false
		switch {
		case err != nil: // nobody can tell: unknown counts as up
		case silent && b.ev.Silent.IsZero():
			b.ev.Silent = begin
		case silent:
			b.ev.Silent = later(b.ev.Silent, begin)
		default:
			b.ev.Answered, b.ev.Silent = f.opt.Now(), time.Time{}
		}
	}()
}

// cleanUppers finishes removals that a crash cut short, and names directories
// that no slot of the board accounts for: nothing that may hold writes is
// removed without being asked.
func (f *Fleet) cleanUppers(ctx context.Context, b *board) error {
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
		known[s.upperID()] = true
	}
	for _, id := range ids {
		if !known[id] {
			f.log.Warn("an upper that device.json does not name is left alone", "serial", b.serial, "upper", u.Path(id))
		}
	}
	return nil
}
