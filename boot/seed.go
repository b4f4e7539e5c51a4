package boot

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"

	"rubus/boot/identity"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/nfsexport"
)

// IdentityStore is where the identity of a board is kept.
func IdentityStore(state string, serial device.Serial) identity.Store {
	return identity.Store{Dir: identity.Dir(record.PathsOf(state, serial).Dir())}
}

// seed puts a board's identity into the root of a slot, which is mounted. What cannot be
// done is the board's problem, and no reason not to boot. addr is the board's address,
// if it is known. Nobody may run on the root: where it is exported already, the calls
// that change it are held meanwhile. The caller holds work.
func (f *Fleet) seed(ctx context.Context, b *board, dev *Device, s record.Slot, addr netip.Addr) {
	if dev.Identity == nil {
		return
	}
	res, err := f.seedHeld(ctx, b, dev, s, addr)
	if errors.Is(err, nfsexport.ErrCalled) {
		return // it has what an earlier boot gave it, and gets the rest when it was silent
	}
	problems := res.Problems
	if err != nil {
		problems = append(problems, err.Error())
	}
	b.mu.Lock()
	b.identity = strings.Join(problems, "; ")
	b.mu.Unlock()
	for _, p := range problems {
		f.tell(Event{Serial: b.serial, Kind: "warned", Text: "identity: " + p})
		if !b.hasTold(f.opt.Now(), "identity: "+p) {
			f.log.Warn("a board lacks a part of its identity", "serial", b.serial, "why", p)
		}
	}
	if len(res.Changed) > 0 {
		f.log.Info("identity put into the root", "serial", b.serial, "root", s.N, "files", len(res.Changed))
	}
}

func (f *Fleet) seedHeld(ctx context.Context, b *board, dev *Device, s record.Slot, addr netip.Addr) (identity.Result, error) {
	f.mu.Lock()
	_, exported := f.byID[s.Export]
	f.mu.Unlock()
	if exported {
		release, err := f.opt.Exporter.Hold(ctx, s.Export)
		if err != nil {
			return identity.Result{}, err
		}
		defer release()
	}
	isEmpty, err := f.disk(b.serial).IsEmpty(s)
	if err != nil {
		return identity.Result{}, err
	}
	spec := f.spec(b.serial, s)
	defer f.quotas.Lift(spec.UpperDir)()
	defer f.releaseNames(b)
	res, err := identity.Seed{
		Store: IdentityStore(f.opt.State, b.serial), Wish: f.wishOf(b, dev, s, addr),
		Root: spec.Target, Upper: filepath.Join(spec.UpperDir, "upper"),
		Claim:  func(name string) string { return f.claimName(b, name) },
		Golden: func(path string) (identity.Golden, error) { return identity.GoldenAt(spec.LayerDirs, path) },
	}.Do()
	if isEmpty && err == nil {
		err = writes.MarkSeeded(spec.UpperDir)
	}
	return res, err
}

// wishOf is what a device's identity is to be, with what is known of the board now.
func (f *Fleet) wishOf(b *board, dev *Device, s record.Slot, addr netip.Addr) *identity.Wish {
	w := *dev.Identity
	b.mu.Lock()
	mac, known := b.claim, b.rec.Address
	if mac.IsZero() {
		mac = b.rec.MAC
	}
	b.mu.Unlock()
	if !dev.MAC.IsZero() {
		mac = dev.MAC
	}
	switch {
	case addr.IsValid():
	case dev.Address.IsValid():
		addr = dev.Address
	default:
		addr = known
	}
	w.Facts.Serial, w.Facts.Image = b.serial.String(), s.Image.String()
	if w.Facts.Name == "" {
		w.Facts.Name = w.Facts.Serial
	}
	if !mac.IsZero() {
		w.Facts.MAC = mac.String()
	}
	if addr.IsValid() {
		w.Facts.Address = addr.String()
	}
	return &w
}

// seedNow says whether nobody can run on a slot: it was never mounted, or the board is
// proved down. One that is mounted again otherwise gets its identity at its MOUNT, which
// says that the board left what it ran on.
func (f *Fleet) seedNow(b *board, s record.Slot) bool {
	e := b.evidence()
	return s.IsOffer() || e.Up(f.opt.Now(), f.opt.Limits) == phase.UpNo
}

// seedAtMount says whether a MOUNT of a slot begins a boot: files were asked for since
// the last one. A board that runs may mount its root once more. On a server that is
// Unasked the board is at work by then: what it has from seedNow has to do.
func (f *Fleet) seedAtMount(b *board, s *record.Slot) bool {
	if f.traits.Unasked {
		return false
	}
	e := b.evidence()
	return s.IsOffer() || e.TFTP.After(e.Mounted)
}
