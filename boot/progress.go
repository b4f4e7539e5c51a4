package boot

import (
	"context"
	"net/netip"
	"time"

	"rubus/boot/bootfs"
	"rubus/boot/bootset"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/config/device"
)

// AskerOf names the board that an address belongs to, and the file that it asked
// for without its prefix. When nobody can tell whose the address is, the name's
// own serial counts; zero: no board. It may wait for the neighbour table.
func (f *Fleet) AskerOf(ctx context.Context, addr netip.Addr, path string) (device.Serial, string) {
	named, mac, name := bootfs.SplitPrefix(path, f.opt.Prefixes)
	if !mac.IsZero() {
		named = f.serialOf(mac)
	}
	owner := f.ownerOf(ctx, addr.Unmap())
	switch {
	case owner.IsZero():
		return named, name
	case named != owner && !named.IsZero():
		return owner, path // another's file: shown as asked for
	}
	return owner, name
}

// Knows says whether devices.yaml names a board, or it has booted here before.
func (f *Fleet) Knows(s device.Serial) bool { return f.isListed(s) || f.known(s) != nil }

// progress tells what is newly seen of a board's boot, once for each boot.
func (f *Fleet) progress(b *board, e *phase.Evidence) {
	b.mu.Lock()
	runs := !e.InitRead.IsZero() && !e.InitRead.Before(e.Mounted) && !b.toldRunning.Equal(e.Mounted)
	if runs {
		b.toldRunning = e.Mounted
	}
	mac := b.rec.MAC
	b.mu.Unlock()
	defer f.lookForReport(b, false)
	if runs {
		f.tell(Event{Time: e.InitRead, Serial: b.serial, MAC: mac, Kind: "running"})
	}
}

// tell is observe for events with more to say. Its time is set when it is zero.
func (f *Fleet) tell(e Event) {
	if f.opt.Observe == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = f.opt.Now()
	}
	f.opt.Observe(e)
}

// How often a report is looked for: at every look after a MOUNT, later each
// minute; a board that made no call since the last look has written nothing.
const (
	reportSoon  = 15 * time.Minute
	reportLater = time.Minute
)

// lookForReport takes the board's own word that its boot came up. Last says that
// the boot is over: it is looked at whatever was seen since the last look.
func (f *Fleet) lookForReport(b *board, last bool) {
	b.mu.Lock()
	cur := b.rec.InState(record.SlotCurrent)
	var calls uint64
	var mounted time.Time
	ok := cur != nil && b.rec.Up
	if ok {
		_, ok = b.mounted[cur.N]
		if a := b.activity[cur.N]; a != nil {
			calls = a.Calls.Load()
		}
		mounted = b.ev.Mounted
	}
	mac := b.rec.MAC
	b.mu.Unlock()
	if !ok {
		return
	}
	now := f.opt.Now()
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	store := f.setStore(b)
	h := &b.sets.history
	if h.Last.ID == "" || !h.Last.Reports || !h.Last.Good.IsZero() || mounted.Before(h.Last.Begun) {
		return
	}
	if !last && (calls == b.sets.looked || now.Sub(mounted) > reportSoon && now.Sub(b.sets.lookedAt) < reportLater) {
		return
	}
	b.sets.looked, b.sets.lookedAt = calls, now
	id, at := bootset.Reported(f.spec(b.serial, *cur).Target)
	if at.Before(mounted) || at.After(now) {
		at = now
	}
	if !h.Report(id, at) {
		return
	}
	if b.sets.present != nil && !h.Last.LastGood {
		if err := store.MarkGood(b.sets.present); err != nil {
			f.log.Error("the files of a good boot cannot be kept", "serial", b.serial, "err", err)
		}
	}
	if err := store.Remember(*h); err != nil {
		f.log.Error("what a board's boots came to cannot be written down", "serial", b.serial, "err", err)
	}
	b.mu.Lock()
	b.ev.Good = at
	b.mu.Unlock()
	f.log.Info("a boot is good", "serial", b.serial, "boot", id, "after", at.Sub(h.Last.Begun).Round(time.Second))
	f.tell(Event{Time: at, Serial: b.serial, MAC: mac, Kind: "good", Boot: id})
}
