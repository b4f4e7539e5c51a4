package boot

import (
	"maps"
	"net/netip"
	"slices"

	"rubus/boot/phase"
	"rubus/config/device"
)

// Reserved says whether devices.yaml names the board with a MAC, and the address
// that it is to have; invalid: any.
func (f *Fleet) Reserved(mac device.MAC) (listed bool, addr netip.Addr) {
	serial := f.serialOf(mac)
	if serial.IsZero() {
		return false, netip.Addr{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.desired.device(serial); d != nil {
		return true, d.Address
	}
	return false, netip.Addr{}
}

// Holder says whether an address is kept for a board: devices.yaml gives it to
// one, or the root of one that is up, or may be, is exported to it. The MAC is
// zero while that is not known.
func (f *Fleet) Holder(addr netip.Addr) (mac device.MAC, held bool) {
	if s := f.serialAt(addr); !s.IsZero() {
		return f.macOf(s), true
	}
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.boards))
	f.mu.Unlock()
	for _, b := range all {
		b.mu.Lock()
		mac, has := b.rec.MAC, b.rec.Address == addr && b.rec.Up
		b.mu.Unlock()
		if !has {
			continue
		}
		if e := b.evidence(); e.Up(f.opt.Now(), f.opt.Limits) != phase.UpNo {
			return mac, true
		}
	}
	return device.MAC{}, false
}

// macOf is the MAC of a board, as far as it is known: by devices.yaml, by what it
// is bound to while it is up, or by what it asked with.
func (f *Fleet) macOf(s device.Serial) device.MAC {
	f.mu.Lock()
	d, b := f.desired.device(s), f.boards[s]
	f.mu.Unlock()
	switch {
	case d != nil && !d.MAC.IsZero():
		return d.MAC
	case b == nil:
		return device.MAC{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.claim.IsZero() || b.rec.Up && !b.rec.MAC.IsZero() {
		return b.rec.MAC
	}
	return b.claim
}
