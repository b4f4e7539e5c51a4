package boot

import (
	"context"
	"net/netip"

	"rubus/boot/bootfs"
	"rubus/boot/phase"
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
