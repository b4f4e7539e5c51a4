package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/overlay"
)

// TakeIn makes the directory dir, which Bound.Write has written on the file system of the
// state directory, the state of a board. A board that has nothing has all of it, by one
// rename. Else it must be down: the snapshots that it has not come to it, its root is
// exchanged for that of dir, with an export of its own, and what it had is set aside as a
// snapshot. Done again after a crash it goes on. What is left of dir is the caller's to remove.
func (f *Fleet) TakeIn(ctx context.Context, serial device.Serial, dir string) (writes.TakenIn, error) {
	in := writes.TakenIn{}
	rec, err := record.ReadFile(filepath.Join(dir, record.File))
	if err == nil && rec.Serial != serial {
		err = fmt.Errorf("it is that of board %s: %w", rec.Serial, ErrRefused)
	}
	if err != nil {
		return in, fmt.Errorf("taking board %s in: %w", serial, err)
	}
	// The versions may not go before the record names them.
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return in, fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	b := f.board(serial)
	if err := b.work.Lock(ctx); err != nil {
		return in, err
	}
	defer b.work.Unlock()
	if err := b.usable(); err != nil {
		return in, err
	}
	has, err := f.disk(serial).Exists()
	if err != nil {
		return in, err
	}
	// What was put there beside the daemon is not known to it, and not thrown away.
	if found, err := record.Load(f.opt.State, serial); err != nil || found.LastSlot != b.record().LastSlot {
		return in, errors.Join(err, fmt.Errorf("taking board %s in: its directory was changed beside the daemon: restart that first: %w", serial, ErrRefused))
	}
	if has && !f.hasNothing(b) {
		if len(rec.Slots) > 0 {
			if err := f.mayReplace(ctx, b); err != nil {
				return in, err
			}
		}
		err = f.merge(ctx, b, rec, dir, &in)
	} else {
		in.New = true
		err = f.moveIn(ctx, b, rec, dir, &in)
	}
	if err != nil {
		return in, fmt.Errorf("taking board %s in: %w", serial, err)
	}
	f.log.Info("board taken in from a backup", "serial", serial, "new", in.New, "snapshots", in.Snapshots)
	return in, nil
}

// hasNothing says that nothing of a board is worth keeping: no writes, no snapshots, no files.
func (f *Fleet) hasNothing(b *board) bool {
	if _, err := f.disk(b.serial).Written(b.record()); !errors.Is(err, writes.ErrNothing) {
		return false
	}
	if s, err := record.LoadSnapshots(f.opt.State, b.serial); err != nil || len(s) > 0 {
		return false
	}
	files, err := writes.OwnFiles(record.PathsOf(f.opt.State, b.serial).Dir())
	return err == nil && len(files) == 0
}

// moveIn gives a board that has nothing the whole directory. The caller holds work.
func (f *Fleet) moveIn(ctx context.Context, b *board, rec record.Record, dir string, in *writes.TakenIn) error {
	all, err := writes.SnapshotsIn(dir)
	if err != nil {
		return err
	}
	in.Snapshots = len(all)
	if has, err := f.disk(b.serial).Exists(); err != nil {
		return err
	} else if has {
		if !f.isDown(ctx, b) {
			return fmt.Errorf("board %s: %w, or nobody can tell", b.serial, ErrUp)
		}
		if err := f.clearFor(ctx, b); err != nil {
			return err
		}
	}
	if err := f.giveProjects(ctx, b.serial, rec, dir); err != nil {
		return err
	}
	f.step(stepIntended)
	if err := f.disk(b.serial).MoveIn(dir); err != nil {
		return err
	}
	f.step(stepMoved)
	b.mu.Lock()
	b.rec, b.problem = rec, ""
	b.mu.Unlock()
	return nil
}

// merge gives a board that has something what is in dir. The caller holds work.
func (f *Fleet) merge(ctx context.Context, b *board, rec record.Record, dir string, in *writes.TakenIn) error {
	kept, err := f.disk(b.serial).TakeFiles(dir)
	in.Kept = kept
	if err != nil {
		return err
	}
	take := func(from string, s record.Snapshot) error {
		isNew, err := f.disk(b.serial).TakeSnapshotIn(from, s)
		if isNew {
			in.Snapshots++
		}
		return err
	}
	// Its other roots become snapshots.
	u := overlay.Uppers{Dir: filepath.Join(dir, "uppers"), Serial: b.serial}
	slots := rec.Kept()
	root := len(rec.Persistent()) > 0
	if root {
		slots = slots[1:]
	}
	for _, s := range slots {
		snap := record.Snapshot{Made: s.Made.UTC(), Note: cmp.Or(s.Aside, "another root, in the backup"), Image: s.Image, Base: s.Base, Boot: s.Boot, Expires: f.opt.Now().UTC().Add(f.opt.KeepAside)}
		from := u.Path(s.UpperID())
		if err := record.WriteSnapshot(from, snap); err != nil {
			return err
		}
		if err := take(from, snap); err != nil {
			return err
		}
	}
	all, err := writes.SnapshotsIn(dir)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := take(filepath.Join(dir, "snapshots", fmt.Sprint(s.N)), s); err != nil {
			return err
		}
	}
	f.step(stepCopied)
	if !root {
		return nil
	}
	s := rec.Persistent()[0]
	return f.replaceWith(ctx, b, record.Slot{Image: s.Image, Base: s.Base, Boot: s.Boot}, "before a backup was restored", func(ctx context.Context, to string) error {
		return f.fillFrom(ctx, b.serial, u.Path(s.UpperID()), s, to)
	})
}

// fillFrom makes the new and empty upper to what another is, which is moved where it can be.
func (f *Fleet) fillFrom(ctx context.Context, serial device.Serial, from string, s record.Slot, to string) error {
	way, err := quota.WayOf(to)
	if err != nil {
		return err
	}
	if way != quota.Kernel {
		return unix.Rename(filepath.Join(from, "upper"), to) // over the empty one
	}
	// What is moved keeps its project, and would be counted nowhere.
	return f.copyOf(ctx, serial, from, s, to)
}

// copyOf copies an upper that nobody writes to, where that leaves the reserve free.
func (f *Fleet) copyOf(ctx context.Context, serial device.Serial, from string, s record.Slot, to string) error {
	used, err := overlay.Footprint(ctx, from)
	if err != nil {
		return err
	}
	if err := f.fits(used.Bytes); err != nil {
		return err
	}
	return f.carrier(serial).Copy(s.Base, from, nil)(ctx, to)
}

// giveProjects makes the uppers in the directory of a board anew where the kernel keeps
// quotas: what is not made in a project cannot be given one.
func (f *Fleet) giveProjects(ctx context.Context, serial device.Serial, rec record.Record, dir string) error {
	if way, err := quota.WayOf(dir); err != nil || way != quota.Kernel {
		return err
	}
	have := overlay.Uppers{Dir: filepath.Join(dir, "uppers"), Serial: serial}
	anew := overlay.Uppers{Dir: filepath.Join(dir, ".counted"), Serial: serial, Fresh: f.quotas.Fresh}
	if err := anew.Sweep(ctx); err != nil {
		return err
	}
	for _, s := range rec.Slots {
		id := s.UpperID()
		if s.Aside != "" || f.quotas.HasProject(have.Path(id)) {
			continue // to be a snapshot, or done by one that was killed
		}
		if _, err := os.Lstat(anew.Path(id)); err == nil { // of one that was killed
			if err := anew.Remove(ctx, id); err != nil {
				return err
			}
		}
		_, err := anew.Build(ctx, s.Base, s.N, func(to string) error { return f.copyOf(ctx, serial, have.Path(id), s, to) })
		if err != nil {
			return fmt.Errorf("counting what it has: %w", err)
		}
		if err := unix.Renameat2(unix.AT_FDCWD, anew.Path(id), unix.AT_FDCWD, have.Path(id), unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		if err := anew.Remove(ctx, id); err != nil {
			return err
		}
	}
	if err := os.Remove(anew.Dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
