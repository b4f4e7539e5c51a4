package boot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rubus/boot/binding"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/nfsexport"
)

// Errors that requests of boards, and work on what they wrote, can end with.
var (
	// ErrNotFound: there is no such board, slot, snapshot, export or file.
	ErrNotFound = record.ErrNotFound
	// ErrRefused: the caller is not the board.
	ErrRefused = binding.ErrRefused
	// ErrBoots: work on what a board wrote was given up because the board began to boot,
	// or mounted its root.
	ErrBoots = writes.ErrBoots
	// ErrNotReady: the root is not mounted yet; asking again helps.
	ErrNotReady = errors.New("not ready")
)

// Mount decides on a MOUNT: the path names a slot and the peer must be its
// board. A root in preparation is waited for, until ctx ends. When Mount
// returns without error, device.json says what the board stands on.
func (f *Fleet) Mount(ctx context.Context, path string, peer netip.AddrPort) (nfsexport.ID, error) {
	b, n := f.lookupPath(path)
	if b == nil {
		return 0, fmt.Errorf("export %q: %w", path, ErrNotFound)
	}
	addr := peer.Addr().Unmap()
	if !f.opt.InsecurePorts && peer.Port() >= 1024 {
		return 0, fmt.Errorf("MOUNT of board %s from port %d of %s: %w (only ports below 1024 are the system's)", b.serial, peer.Port(), addr, ErrRefused)
	}
	mac, err := f.identify(ctx, b, addr)
	if err != nil {
		f.mountRefused(b, addr, err)
		f.observe(b.serial, mac, "refused", "MOUNT from "+addr.String()+": "+err.Error())
		return 0, err
	}
	// Whoever prepares the root holds the lock until it is mounted.
	if err := b.work.LockFor(ctx, turn.Mount); err != nil {
		return 0, fmt.Errorf("root of board %s: %w", b.serial, ErrNotReady)
	}
	defer b.work.Unlock()
	slot, err := f.takeUp(ctx, b, n, mac, addr)
	if err != nil {
		f.mountRefused(b, addr, err)
		f.observe(b.serial, mac, "refused", "MOUNT from "+addr.String()+": "+err.Error())
		return 0, err
	}
	f.log.Info("root mounted", "serial", b.serial, "address", addr, "image", slot.Image, "root", n)
	f.observe(b.serial, mac, "mount", f.path(b.serial, n))
	return slot.Export, nil
}

// mountRefused tells of a refused MOUNT, once for each reason and board: whoever
// is refused can ask as often as he likes.
func (f *Fleet) mountRefused(b *board, addr netip.Addr, err error) {
	why := "MOUNT from " + addr.String() + ": " + err.Error()
	if !b.refuse(f.opt.Now(), why, why) {
		f.log.Warn("a MOUNT is refused", "serial", b.serial, "address", addr, "err", err)
	}
}

// takeUp makes slot n the board's root: on disk, then to its clients.
func (f *Fleet) takeUp(ctx context.Context, b *board, n int, mac device.MAC, addr netip.Addr) (record.Slot, error) {
	now := f.opt.Now()
	rec := b.record()
	s := rec.Slot(n)
	if s == nil {
		return record.Slot{}, fmt.Errorf("export of board %s: %w", b.serial, ErrNotFound)
	}
	if s.State == record.SlotOld || s.State == record.SlotParked {
		return record.Slot{}, fmt.Errorf("root %d of board %s was given up for a newer one: %w", n, b.serial, ErrRefused)
	}
	dev := f.wanted(b.serial)
	if dev == nil || !dev.Enabled {
		return record.Slot{}, fmt.Errorf("board %s has no entry in devices.yaml any more, or is disabled: %w", b.serial, ErrRefused)
	}
	if err := f.mayTake(b, &rec, s, mac); err != nil {
		return record.Slot{}, err
	}
	if rec.Move != nil && rec.Move.Slot == n && f.isStale(ctx, b, &rec) {
		return record.Slot{}, fmt.Errorf("board %s wrote to the root it had since root %d was made of it: it is to boot anew: %w", b.serial, n, ErrRefused)
	}
	if !b.isMounted(n) {
		// Prepared by a daemon that ended since.
		if err := f.offer(ctx, b, *s); err != nil {
			f.log.Error("a root that its board wants cannot be mounted", "serial", b.serial, "root", n, "err", err)
			return record.Slot{}, fmt.Errorf("root of board %s: %w", b.serial, ErrNotReady)
		}
	}
	if f.seedAtMount(b, s) {
		f.seed(ctx, b, dev, *s, addr)
	}
	next, err := record.PlanMount(rec, n, func(s record.Slot) (bool, error) { return f.disk(b.serial).IsEmpty(s) }, now)
	if err != nil {
		return record.Slot{}, err
	}
	taken := next.Slot(n)
	taken.Async, taken.InsecurePorts, taken.Awaits = dev.Async, f.opt.InsecurePorts, nil
	next.Address = addr
	if !mac.IsZero() {
		next.MAC = mac
	}
	if err := f.store(b, next); err != nil {
		return record.Slot{}, err
	}
	b.mu.Lock()
	b.ev.Mounted, b.ev.Adopted, b.ev.Stopped = now, false, time.Time{}
	b.problem, b.refusal = "", ""
	b.mu.Unlock()
	f.revoke(b, addr)
	return *taken, f.republish(b)
}

// mayTake refuses what would take the root from under a board that is up, or
// may be: another MAC, and another slot without a boot of the board's own.
func (f *Fleet) mayTake(b *board, rec *record.Record, s *record.Slot, mac device.MAC) error {
	who := f.binding(b)
	cur := rec.InState(record.SlotCurrent)
	return f.doubted(b, who.MayTake(mac, cur != nil && cur.N != s.N))
}

// doubted has a board asked for a sign of life when something is refused because it is up,
// or may be: it may be down, and only not known to be. It gives err.
func (f *Fleet) doubted(b *board, err error) error {
	if errors.Is(err, binding.ErrMayBeUp) {
		f.probe(b)
	}
	return err
}

// binding is what is known of who a board is.
func (f *Fleet) binding(b *board) binding.Board {
	now, e := f.opt.Now(), b.evidence()
	who := binding.Board{Serial: b.serial, TrustFirst: f.opt.TrustFirst, Booting: e.NewBoot(now, f.opt.Limits)}
	if dev := f.wanted(b.serial); dev != nil {
		who.Entry, who.Address = dev.MAC, dev.Address
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	who.Bound, who.Claim = b.rec.MAC, b.claim
	who.MayBeUp = b.rec.Up && e.Up(now, f.opt.Limits) != phase.UpNo
	return who
}

// revoke takes an address from the boards that had it before: it is b's now.
// It returns before that is done, as the other boards may be busy.
func (f *Fleet) revoke(b *board, addr netip.Addr) {
	for _, other := range f.all() {
		if other == b {
			continue
		}
		if rec := other.record(); !rec.Has(addr) {
			continue
		}
		go f.unbind(other, addr)
	}
}

// unbind makes an address no board's: calls from it are looked up again.
func (f *Fleet) unbind(b *board, addr netip.Addr) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if b.work.Lock(ctx) != nil {
		return
	}
	defer b.work.Unlock()
	rec := b.record()
	if !rec.Has(addr) {
		return
	}
	rec.Lose(addr)
	if err := errors.Join(f.store(b, rec), f.republish(b)); err != nil {
		f.log.Error("an address cannot be taken from a board that lost it", "serial", b.serial, "address", addr, "err", err)
		return
	}
	f.log.Info("the board lost its address to another", "serial", b.serial, "address", addr)
}

// republish offers all mounted slots of a board again, as its record now says.
func (f *Fleet) republish(b *board) error {
	var errs []error
	for _, s := range b.slots() {
		if b.isMounted(s.N) {
			errs = append(errs, f.publish(b, s, nfsexport.Ready))
		}
	}
	return errors.Join(errs...)
}

// Rebind decides on an NFS call with a good handle of an export that came from
// an address the export is not for. The same board on a new address (another
// lease) is rebound: on disk, then served. It is asked at most once a second
// for one peer, and may block for as long as the neighbour table takes.
func (f *Fleet) Rebind(ctx context.Context, id nfsexport.ID, peer netip.AddrPort) bool {
	f.mu.Lock()
	key, ok := f.byID[id]
	b := f.boards[key.serial]
	f.mu.Unlock()
	if !ok || b == nil || (!f.opt.InsecurePorts && peer.Port() >= 1024) {
		return false
	}
	addr, now := peer.Addr().Unmap(), f.opt.Now()
	b.mu.Lock()
	rec := b.rec.Clone()
	tooSoon := now.Sub(b.strangers[addr]) < time.Second
	b.mu.Unlock()
	if s := rec.Slot(key.n); tooSoon || s == nil || s.IsOffer() || !rec.Up {
		return false
	}
	if rec.Address == addr {
		return true // rebound while this call was on its way
	}
	mac, ok := f.opt.Neighbours.Owner(ctx, addr)
	if !ok || rec.MAC.IsZero() || mac != rec.MAC || !f.opt.Neighbours.OnLink(addr) {
		b.mu.Lock()
		_, again := b.strangers[addr]
		if b.strangers == nil || len(b.strangers) >= maxStrangers {
			b.strangers = map[netip.Addr]time.Time{}
		}
		b.strangers[addr] = now
		b.mu.Unlock()
		if !again {
			f.log.Warn("NFS calls are refused: the caller is not the board", "serial", b.serial, "address", addr, "mac", mac)
		}
		f.observe(b.serial, mac, "refused", "NFS from "+addr.String())
		return false
	}
	if err := b.work.LockFor(ctx, turn.Mount); err != nil {
		return false
	}
	rec = b.record()
	// Things may have changed while the lock was waited for.
	if s := rec.Slot(key.n); s == nil || s.IsOffer() || !rec.Up || rec.MAC != mac {
		b.work.Unlock()
		return false
	}
	rec.Address = addr
	if err := f.store(b, rec); err != nil {
		b.work.Unlock()
		f.log.Error("a board's new address cannot be written down", "serial", b.serial, "err", err)
		return false
	}
	f.log.Info("the board has a new address", "serial", b.serial, "address", addr)
	// Not on the goroutine of a call: publishing may wait for calls to end. Until
	// it is done, further calls come here and find the address written down.
	go func() {
		defer b.work.Unlock()
		if err := f.republish(b); err != nil {
			f.log.Error("a board's new address cannot be served", "serial", b.serial, "err", err)
		}
	}()
	f.revoke(b, addr)
	return true
}

// maxStrangers bounds the refused addresses remembered of one board.
const maxStrangers = 64

// identify says whether addr is the board's: on the link its neighbour entry
// must be the MAC the board was heard with or is bound to; off the link only
// an address: of devices.yaml will do. The MAC is zero off the link.
func (f *Fleet) identify(ctx context.Context, b *board, addr netip.Addr) (device.MAC, error) {
	if !f.opt.Neighbours.OnLink(addr) {
		who := f.binding(b)
		return device.MAC{}, who.IsOffLink(addr)
	}
	mac, ok := f.opt.Neighbours.Owner(ctx, addr)
	if !ok {
		return mac, fmt.Errorf("the neighbour table has no MAC for %s, so it cannot be told from board %s: %w", addr, b.serial, ErrRefused)
	}
	who := f.binding(b)
	return mac, f.doubted(b, who.IsAt(addr, mac, func(m device.MAC) bool { return f.claimant(m, b.serial).IsZero() }))
}

// lookupPath finds the slot that a MOUNT path names: /SERIAL/N, or /SERIAL for
// the board's present root.
func (f *Fleet) lookupPath(path string) (*board, int) {
	f.mu.Lock()
	key, ok := f.byPath[path]
	f.mu.Unlock()
	if ok {
		return f.known(key.serial), key.n
	}
	name, rest, more := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	serial, err := device.ParseSerial(name)
	if err != nil {
		return nil, 0
	}
	b := f.known(serial)
	if b == nil {
		return nil, 0
	}
	rec := b.record()
	if !more {
		if s := rec.InState(record.SlotCurrent); s != nil {
			return b, s.N
		}
		return nil, 0
	}
	n, err := strconv.Atoi(rest)
	if err != nil || rec.Slot(n) == nil {
		return nil, 0
	}
	return b, n
}
