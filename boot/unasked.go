package boot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/nfsexport"
	"rubus/overlay"
)

// A server that is Unasked (nfsexport.Traits) lets a board mount its root by its
// address, and tells nobody. So the address is written down and exported when the
// board gets its files, what Mount would check is checked then, and the slot is the
// board's when it is seen to be called on. What may have been mounted unseen is
// offered again after a restart.

// followTick is how often a board that is awaited is looked for at another address:
// its system may have another one than its firmware.
const followTick = time.Second

// path is what a board gives to MNT for a slot.
func (f *Fleet) path(serial device.Serial, n int) string {
	if f.traits.RealPath {
		return record.PathsOf(f.opt.State, serial).Root(n)
	}
	return record.ExportPath(serial, n)
}

// await lets a board mount slot n from addr, where it would not be asked about. mac
// is the board's, as far as the link tells. The error wraps ErrRefused when another
// root may be under the board.
func (f *Fleet) await(ctx context.Context, b *board, n int, mac device.MAC, addr netip.Addr) error {
	if !f.traits.Unasked {
		return nil
	}
	rec := b.record()
	if s := rec.Slot(n); s != nil && slices.Contains(s.Awaits, addr) && b.isAwaiting() {
		return nil
	}
	if err := b.work.LockFor(ctx, turn.Files); err != nil {
		return fmt.Errorf("root of board %s: %w", b.serial, ErrNotReady)
	}
	defer b.work.Unlock()
	rec = b.record()
	s := rec.Slot(n)
	if s == nil || !b.isMounted(n) {
		return fmt.Errorf("root %d of board %s: %w", n, b.serial, ErrNotReady)
	}
	if err := f.mayTake(b, &rec, s, mac); err != nil {
		return err
	}
	rec.Await(n, addr, f.opt.InsecurePorts)
	if err := f.store(b, rec); err != nil {
		return err
	}
	b.mu.Lock()
	b.awaiting = f.opt.Now()
	b.mu.Unlock()
	f.revoke(b, addr)
	return f.republish(b)
}

// isAwaiting says that the board's present boot has been let in.
func (b *board) isAwaiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.awaiting.Before(b.ev.Attempt)
}

// Seen notes that a client uses an export, on a server that is Unasked: a slot that
// was awaited is the board's now. It may wait for the neighbour table.
func (f *Fleet) Seen(ctx context.Context, id nfsexport.ID, client netip.Addr) {
	f.mu.Lock()
	key, ok := f.byID[id]
	b := f.boards[key.serial]
	f.mu.Unlock()
	if !ok || b == nil {
		return
	}
	b.mu.Lock()
	s := b.rec.Slot(key.n)
	a := b.activity[key.n]
	// A client of an earlier boot may still be in the server's tables.
	taken := s != nil && s.IsAwaited() && a != nil && unixNano(a.LastCall.Load()).After(phase.Later(b.awaiting, f.started))
	runs := taken && b.rec.Up && s.State == record.SlotCurrent && !b.ev.Attempt.After(b.ev.Mounted)
	known := b.rec.Address == client
	b.mu.Unlock()
	if runs {
		if known {
			return
		}
		if err := f.rebound(ctx, b, key.n, client); err != nil {
			f.mountRefused(b, client, err)
		}
		return
	}
	if !taken {
		return
	}
	mac, err := f.identify(ctx, b, client)
	if err == nil {
		b.work.MakeWay(turn.Mount) // else it is seen again
	}
	if err == nil && b.work.TryLock() {
		_, err = f.takeUp(ctx, b, key.n, mac, client)
		b.work.Unlock()
		if err == nil {
			f.log.Info("root mounted", "serial", b.serial, "address", client, "root", key.n)
			f.observe(b.serial, mac, "mount", f.path(b.serial, key.n))
		}
	}
	if err != nil {
		f.mountRefused(b, client, err)
	}
}

// followAll looks for the addresses of all boards that are awaited, until ctx ends.
func (f *Fleet) followAll(ctx context.Context) {
	t := time.NewTicker(followTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, b := range f.all() {
				f.follow(ctx, b)
			}
		}
	}
}

// follow lets a board come from all addresses that the neighbour table gives to its
// MAC: while it is awaited, and when its old one is nobody's any more. That one stays
// its own until it calls from another: a cable that is out makes it nobody's, too.
func (f *Fleet) follow(ctx context.Context, b *board) {
	rec := b.record()
	awaited, mac := rec.Awaited(), rec.MAC
	b.mu.Lock()
	if awaited != nil && !b.claim.IsZero() {
		mac = b.claim
	}
	quiet := b.rec.Up && f.opt.Now().Sub(b.lastCall()) > f.opt.Limits.Call
	b.mu.Unlock()
	if mac.IsZero() || awaited == nil && !quiet {
		return
	}
	now, err := f.opt.Neighbours.Addresses(mac)
	if err != nil {
		if !b.hasTold(f.opt.Now(), "addresses") {
			f.log.Warn("a board cannot be looked for at other addresses", "serial", b.serial, "err", err)
		}
		return
	}
	if awaited != nil {
		f.awaitAlso(ctx, b, *awaited, mac, now)
		return
	}
	f.awaitElsewhere(ctx, b, mac, now)
}

// awaitElsewhere awaits a board that is quiet at the addresses it has now, when its own is
// nobody's any more.
func (f *Fleet) awaitElsewhere(ctx context.Context, b *board, mac device.MAC, now []netip.Addr) {
	rec := b.record()
	if rec.AwaitElsewhere(now) == nil {
		return
	}
	if owner, ok := f.opt.Neighbours.Owner(ctx, rec.Address); rec.Address.IsValid() && ok && owner == mac || !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	rec = b.record()
	next := rec.AwaitElsewhere(now)
	if next == nil || rec.MAC != mac || !f.awaitAt(b, rec) {
		return
	}
	b.mu.Lock()
	b.awaiting = f.opt.Now()
	b.mu.Unlock()
	for _, a := range next {
		f.revoke(b, a)
	}
}

// awaitAlso awaits a board at the addresses it has now, and not at those that
// another has.
func (f *Fleet) awaitAlso(ctx context.Context, b *board, was record.Slot, mac device.MAC, now []netip.Addr) {
	next := was.AwaitAlso(now, func(a netip.Addr) bool {
		owner, ok := f.opt.Neighbours.Owner(ctx, a)
		return ok && owner != mac && f.opt.Neighbours.OnLink(a)
	})
	if slices.Equal(next, was.Awaits) || len(next) == 0 || !b.work.TryLock() {
		return
	}
	defer b.work.Unlock()
	rec := b.record()
	s := rec.Slot(was.N)
	if s == nil || !slices.Equal(s.Awaits, was.Awaits) {
		return
	}
	if s.Awaits = next; !f.awaitAt(b, rec) {
		return
	}
	for _, a := range next {
		f.revoke(b, a)
	}
}

// awaitAt writes down where a board is awaited now, and lets it come from there. It says
// whether it did.
func (f *Fleet) awaitAt(b *board, rec record.Record) bool {
	err := errors.Join(f.store(b, rec), f.republish(b))
	if err != nil {
		f.log.Error("a board cannot be awaited at its other address", "serial", b.serial, "err", err)
	}
	return err == nil
}

// rebound makes the address that a board was seen to call from its own; it did not
// boot anew.
func (f *Fleet) rebound(ctx context.Context, b *board, n int, addr netip.Addr) error {
	if _, err := f.identify(ctx, b, addr); err != nil || !b.work.TryLock() {
		return err
	}
	defer b.work.Unlock()
	rec := b.record()
	if !rec.Rebind(n, addr) {
		return nil
	}
	if err := errors.Join(f.store(b, rec), f.republish(b)); err != nil {
		return err
	}
	f.log.Info("the board has a new address", "serial", b.serial, "address", addr)
	return nil
}

// isCalledUnasked says that the board uses a root that it was let into and that is
// not its own in the record: it was refused that, or is about to be seen. b.mu is held.
func (b *board) isCalledUnasked() bool {
	return slices.ContainsFunc(b.rec.Slots, func(s record.Slot) bool {
		a := b.activity[s.N]
		return s.IsAwaited() && a != nil && a.LastCall.Load() != 0
	})
}

// A server that is not ours may have a root in use for a while after its export was
// withdrawn: for calls that run, and for files that it keeps open between calls.
const (
	letGoWait = 10 * time.Second
	letGoTick = 100 * time.Millisecond
	// askAgain is how often the server is asked to let go of it once more.
	askAgain = 2 * time.Second
)

// unmount ends the mount of a slot whose export is withdrawn. served says that it was
// one until now: then it is waited for a server which lets go later. A root that is busy
// for another reason is tried again by whoever calls.
func (f *Fleet) unmount(root overlay.Root, s record.Slot, served bool) error {
	begin := time.Now()
	asked := begin
	for {
		err := overlay.Unmount(context.Background(), root)
		if !errors.Is(err, unix.EBUSY) || !f.traits.Unasked || !served || time.Since(begin) > letGoWait {
			return err
		}
		time.Sleep(letGoTick)
		if time.Since(asked) < askAgain {
			continue
		}
		asked = time.Now()
		if err := f.opt.Exporter.Withdraw(s.Export); err != nil {
			return err
		}
	}
}

// lastCall is the last call on any of the board's exports. b.mu is held.
func (b *board) lastCall() (t time.Time) {
	for _, a := range b.activity {
		t = phase.Later(t, unixNano(a.LastCall.Load()))
	}
	return t
}

// isCalledOn says that a board was heard on a slot after it had mounted it. Others
// can mount it in its name where the server is Unasked; read or write it they
// cannot. b.mu is held.
func (f *Fleet) isCalledOn(b *board, s *record.Slot) bool {
	if s == nil {
		return false
	}
	a := b.activity[s.N]
	if a == nil || !unixNano(a.LastCall.Load()).After(s.Mounted) {
		return false
	}
	return !f.traits.Unasked || a.BytesRead.Load()+a.BytesWritten.Load() > 0
}
