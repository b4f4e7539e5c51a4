package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rubus/boot/attempt"
	"rubus/boot/bootset"
	"rubus/boot/carry"
	"rubus/boot/record"
	"rubus/boot/turn"
	"rubus/nfsexport"
	"rubus/overlay"
)

// prepare gives the slot that answers the board's present boot attempt: its
// root is mounted and published. It is idempotent; calls for one board run one
// after the other. It may block on mounts. asked is the file that is asked for.
func (f *Fleet) prepare(ctx context.Context, b *board, dev *Device, asked string) (record.Slot, *attempt.Boot, error) {
	lock := b.work.Lock
	if f.mayLeave(b) {
		lock = func(ctx context.Context) error { return b.work.LockFor(ctx, turn.Files) }
	}
	if err := lock(ctx); err != nil {
		return record.Slot{}, nil, err
	}
	defer b.work.Unlock()
	if s, c, ok := b.pinnedSlot(); ok && !f.isOutdated(b, s) {
		return s, c, nil
	}
	f.prepares(1)
	defer f.prepares(-1)
	if err := f.beginMove(ctx, b, dev); err != nil {
		b.setProblem(err.Error())
		return record.Slot{}, nil, err
	}
	slot, c, err := f.give(ctx, b, dev, asked)
	if f.rejectTrial(b, slot, c, err) {
		slot, c, err = f.give(ctx, b, dev, asked)
	}
	if err != nil {
		b.setProblem(err.Error())
		return record.Slot{}, nil, err
	}
	problem := ""
	if c.Err != nil {
		problem = c.Err.Error()
	}
	b.mu.Lock()
	b.pinned, b.boot, b.problem = slot.N, c, problem
	b.mu.Unlock()
	f.log.Info("root prepared", "serial", b.serial, "image", slot.Image, "root", slot.N, "boot", c.ID)
	return slot, c, nil
}

// prepares counts one more board that is prepared, or with -1 one less.
func (f *Fleet) prepares(n int64) {
	if now := f.preparing.Add(n); f.opt.Waits != nil && max(now, now-n) == 1 {
		f.opt.Waits(int(n))
	}
}

// give chooses the slot of a boot that begins, offers it and settles its boot files. The
// caller holds work. The slot is that which was chosen also when it cannot be offered.
func (f *Fleet) give(ctx context.Context, b *board, dev *Device, asked string) (record.Slot, *attempt.Boot, error) {
	slot, discard, err := f.choose(ctx, b, dev)
	if err != nil {
		return record.Slot{}, nil, err
	}
	for _, s := range discard {
		f.discard(b, s)
	}
	if err = f.mount(ctx, b, slot); err == nil {
		if f.seedNow(b, slot) {
			f.seed(ctx, b, dev, slot, netip.Addr{})
		}
		err = f.offer(ctx, b, slot)
	}
	if err != nil {
		return slot, nil, err
	}
	return slot, f.settle(b, dev, slot, asked), nil
}

// pinnedSlot is the slot chosen earlier in the same boot attempt, and its files.
func (b *board) pinnedSlot() (record.Slot, *attempt.Boot, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.mounted[b.pinned]
	s := b.rec.Slot(b.pinned)
	if !ok || s == nil || b.boot == nil {
		return record.Slot{}, nil, false
	}
	return *s, b.boot, true
}

// choose settles which slot the boot gets and writes it down. The image store
// is held, so the version cannot go between its choice and the record.
func (f *Fleet) choose(ctx context.Context, b *board, dev *Device) (record.Slot, []record.Slot, error) {
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return record.Slot{}, nil, fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	if err := b.usable(); err != nil {
		return record.Slot{}, nil, err
	}
	rec := b.record()
	if err := f.disk(b.serial).CountUppers(&rec); err != nil {
		return record.Slot{}, nil, err
	}
	empty := func(s record.Slot) (bool, error) { return f.disk(b.serial).IsEmpty(s) }
	w, wantErr := f.want(dev)
	if wantErr != nil {
		// A board that has written stays on its base whatever became of the tag.
		kept, err := written(&rec, empty)
		if s := rec.Dictated(); s != nil {
			kept = s
		}
		if err != nil || kept == nil || dev.Ephemeral {
			return record.Slot{}, nil, errors.Join(wantErr, err)
		}
		w = record.Want{Image: kept.Image, Base: kept.Base, Boot: kept.Boot}
	}
	next, n, discard, err := record.PlanBoot(rec, w, empty, record.NewExportID, f.opt.Now())
	if err != nil {
		return record.Slot{}, nil, err
	}
	if err := f.store(b, next); err != nil {
		return record.Slot{}, nil, err
	}
	return *next.Slot(n), discard, nil
}

// written is the persistent slot that holds writes; nil: none.
func written(rec *record.Record, empty func(record.Slot) (bool, error)) (*record.Slot, error) {
	for _, s := range rec.Persistent() {
		if isEmpty, err := empty(s); err != nil || !isEmpty {
			return &s, err
		}
	}
	return nil, nil
}

// want resolves the device's image to the base it names now.
func (f *Fleet) want(dev *Device) (record.Want, error) {
	v, err := f.opt.Store.Resolve(dev.Image)
	if err != nil {
		return record.Want{}, fmt.Errorf("image %q of this board: %w", dev.Image, err)
	}
	base, err := carry.BaseOf(f.opt.Store, v)
	if err != nil {
		return record.Want{}, err
	}
	return record.Want{Image: v.Ref, Base: base, Boot: v.Boot, Ephemeral: dev.Ephemeral}, nil
}

// offer mounts the root of a slot and publishes it. The caller holds work.
func (f *Fleet) offer(ctx context.Context, b *board, s record.Slot) error {
	if err := f.mount(ctx, b, s); err != nil {
		return err
	}
	if err := f.publish(b, s, nfsexport.Ready); err != nil {
		// Not offered: to be tried again, when the mount is adopted.
		b.mu.Lock()
		delete(b.mounted, s.N)
		b.mu.Unlock()
		return err
	}
	return nil
}

// mount mounts the root of a slot, or adopts the mount that is there. The
// caller holds work.
func (f *Fleet) mount(ctx context.Context, b *board, s record.Slot) error {
	if b.isMounted(s.N) {
		return nil
	}
	spec := f.spec(b.serial, s)
	now, err := overlay.BaseOf(s.Base.Digests, spec.LayerDirs)
	if err != nil {
		return fmt.Errorf("image %q: %w", s.Image, err)
	}
	if err := s.Base.Matches(now); err != nil {
		return fmt.Errorf("image %q is not what this board's writes were made over: %w", s.Image, err)
	}
	var root overlay.Root
	err = f.ballast.Do(func() (err error) {
		root, err = f.mountSlot(ctx, b, s, spec)
		return err
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.mounted[s.N] = root
	delete(b.atRest, s.N)
	b.mu.Unlock()
	return nil
}

// mountSlot mounts the root of a slot, whose upper it makes when there is none yet.
func (f *Fleet) mountSlot(ctx context.Context, b *board, s record.Slot, spec overlay.Spec) (overlay.Root, error) {
	if _, err := os.Lstat(spec.UpperDir); errors.Is(err, fs.ErrNotExist) && s.Mounted.IsZero() {
		top := spec.LayerDirs[len(spec.LayerDirs)-1]
		if _, err := f.uppers(b.serial).Create(s.Base, s.N, top); err != nil {
			return overlay.Root{}, err
		}
	}
	if err := os.MkdirAll(record.PathsOf(f.opt.State, b.serial).Roots(), 0o700); err != nil {
		return overlay.Root{}, fmt.Errorf("making the mount point: %w", err)
	}
	defer f.quotas.Lift(spec.UpperDir)()
	root, err := overlay.Mount(ctx, spec)
	if err != nil {
		return overlay.Root{}, fmt.Errorf("mounting the root of board %s: %w", b.serial, err)
	}
	return root, nil
}

// publish offers a slot over NFS, or changes how it is offered.
func (f *Fleet) publish(b *board, s record.Slot, state nfsexport.State) error {
	e := f.export(b, s, state)
	if state == nfsexport.Ready { // the server may make a file of its own there
		defer f.quotas.Lift(e.Upper)()
	}
	if err := f.opt.Exporter.Publish(e); err != nil {
		return fmt.Errorf("exporting the root of board %s: %w", b.serial, err)
	}
	f.mu.Lock()
	f.byPath[e.Path] = slotKey{b.serial, s.N}
	f.byID[e.ID] = slotKey{b.serial, s.N}
	f.mu.Unlock()
	return nil
}

func (f *Fleet) export(b *board, s record.Slot, state nfsexport.State) nfsexport.Export {
	b.mu.Lock()
	a := b.activity[s.N]
	if a == nil {
		a = &nfsexport.Activity{}
		b.activity[s.N] = a
	}
	rec := b.rec
	b.mu.Unlock()
	dir := record.PathsOf(f.opt.State, b.serial).Root(s.N)
	e := nfsexport.Export{
		ID: s.Export, Name: b.serial.String(), Path: f.path(b.serial, s.N), State: state,
		Dir: dir, Upper: f.uppers(b.serial).Path(s.UpperID()),
		Client: rec.Address, InsecurePorts: s.InsecurePorts, Async: s.Async, Activity: a,
	}
	if s.IsOffer() {
		// Nobody's until the board mounts it.
		e.Client = netip.Addr{}
	}
	if f.traits.Unasked {
		e.Awaited = s.Awaits
	}
	if state == nfsexport.Ready {
		e.Layers = f.spec(b.serial, s).LayerDirs
		e.Index, e.Quota = filepath.Join(e.Upper, "work", "index"), f.quotaOf(b, s, e.Upper)
		e.Init = bootset.InitInode(dir)
	}
	return e
}

// release ends the export of a slot and unmounts its root. The caller holds
// work and has proved that nothing of value stands on it.
func (f *Fleet) release(b *board, s record.Slot) error {
	if err := f.opt.Exporter.Withdraw(s.Export); err != nil {
		return fmt.Errorf("withdrawing the root of board %s: %w", b.serial, err)
	}
	f.mu.Lock()
	_, served := f.byID[s.Export]
	delete(f.byPath, f.path(b.serial, s.N))
	delete(f.byID, s.Export)
	f.mu.Unlock()
	f.quotas.Close(s.Export)
	root, err := b.mountOf(s)
	if err != nil {
		return err
	}
	if root.MountID != 0 {
		if err := f.unmount(root, s, served); err != nil {
			return fmt.Errorf("unmounting the root of board %s: %w", b.serial, err)
		}
	}
	b.mu.Lock()
	delete(b.mounted, s.N)
	delete(b.activity, s.N)
	b.atRest[s.N] = true
	if b.pinned == s.N {
		b.pinned = 0
	}
	b.mu.Unlock()
	// The mount point is empty now; rmdir takes nothing that is not.
	_ = unix.Rmdir(record.PathsOf(f.opt.State, b.serial).Root(s.N))
	return nil
}

// mountOf is the mount of a slot, also one that this process did not take up;
// its MountID is 0 when there is none.
func (b *board) mountOf(s record.Slot) (overlay.Root, error) {
	b.mu.Lock()
	root, ok := b.mounted[s.N]
	b.mu.Unlock()
	if ok {
		return root, nil
	}
	roots, err := overlay.Mounted()
	if err != nil {
		return overlay.Root{}, fmt.Errorf("looking for the mounts of board %s: %w", b.serial, err)
	}
	for _, r := range roots {
		if r.Serial == b.serial && r.UpperID == s.UpperID() {
			return r, nil
		}
	}
	return overlay.Root{}, nil
}

// discard removes a slot that the record no longer names. What fails here is
// left on disk and found at the next start.
func (f *Fleet) discard(b *board, s record.Slot) {
	if err := f.release(b, s); err != nil {
		f.log.Warn("a root that is not needed any more stays", "serial", b.serial, "root", s.N, "err", err)
		return
	}
	err := f.uppers(b.serial).Remove(context.Background(), s.UpperID())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Warn("an upper that is not needed any more stays", "serial", b.serial, "upper", s.UpperID(), "err", err)
	}
	b.mu.Lock()
	delete(b.atRest, s.N) // no slot has that number again
	b.mu.Unlock()
}
