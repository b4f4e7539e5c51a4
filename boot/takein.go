package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/upper"
	"rubus/overlay"
)

// TakenIn is what became of a board that was taken in.
type TakenIn struct {
	// New says that the board had nothing here before.
	New bool `json:"new"`
	// Snapshots counts those that came to it.
	Snapshots int `json:"snapshots"`
	// Kept names files that the board had already and that stayed as they were.
	Kept []string `json:"kept,omitempty"`
}

// TakeIn makes the directory dir, which Bound.Write has written on the file system of the
// state directory, the state of a board. A board that has nothing has all of it, by one
// rename. Else it must be down: the snapshots that it has not come to it, its root is
// exchanged for that of dir, with an export of its own, and what it had is set aside as a
// snapshot. Done again after a crash it goes on. What is left of dir is the caller's to remove.
func (f *Fleet) TakeIn(ctx context.Context, serial device.Serial, dir string) (TakenIn, error) {
	in := TakenIn{}
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
	if err := b.lock(ctx); err != nil {
		return in, err
	}
	defer b.unlock()
	if err := b.usable(); err != nil {
		return in, err
	}
	has, err := f.hasState(serial)
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
	if _, err := f.writtenSlot(b); !errors.Is(err, ErrNotFound) {
		return false
	}
	if s, err := record.LoadSnapshots(f.opt.State, b.serial); err != nil || len(s) > 0 {
		return false
	}
	files, err := ownFiles(record.PathsOf(f.opt.State, b.serial).Dir())
	return err == nil && len(files) == 0
}

// ownFiles lists what a board's directory has beside its uppers.
func ownFiles(dir string) (out []string, err error) {
	names, err := os.ReadDir(dir)
	for _, e := range names {
		if !slices.Contains(notFiles(), e.Name()) && e.Name()[0] != '.' {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// moveIn gives a board that has nothing the whole directory. The caller holds work.
func (f *Fleet) moveIn(ctx context.Context, b *board, rec record.Record, dir string, in *TakenIn) error {
	all, err := snapshotsIn(dir)
	if err != nil {
		return err
	}
	in.Snapshots = len(all)
	p := record.PathsOf(f.opt.State, b.serial)
	if has, err := f.hasState(b.serial); err != nil {
		return err
	} else if has {
		if !f.isDown(ctx, b) {
			return fmt.Errorf("board %s: %w, or nobody can tell", b.serial, ErrUp)
		}
		if err := f.clearFor(ctx, b); err != nil {
			return err
		}
	}
	f.step(stepIntended)
	if err := os.Rename(dir, p.Dir()); err != nil {
		return err
	}
	if err := record.SyncDirs(filepath.Dir(p.Dir()), filepath.Dir(dir)); err != nil {
		return err
	}
	f.step(stepMoved)
	b.mu.Lock()
	b.rec, b.problem = rec, ""
	b.mu.Unlock()
	return nil
}

// merge gives a board that has something what is in dir. The caller holds work.
func (f *Fleet) merge(ctx context.Context, b *board, rec record.Record, dir string, in *TakenIn) error {
	if err := f.takeFiles(b, dir, in); err != nil {
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
		if err := f.takeSnapshotIn(b, from, snap, in); err != nil {
			return err
		}
	}
	all, err := snapshotsIn(dir)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := f.takeSnapshotIn(b, filepath.Join(dir, "snapshots", fmt.Sprint(s.N)), s, in); err != nil {
			return err
		}
	}
	f.step(stepCopied)
	if !root {
		return nil
	}
	s := rec.Persistent()[0]
	return f.replaceWith(ctx, b, record.Slot{Image: s.Image, Base: s.Base, Boot: s.Boot}, "before a backup was restored", func(to string) error {
		return f.fillFrom(ctx, u.Path(s.UpperID()), s, to)
	})
}

// fillFrom makes the new and empty upper to what another is, which is moved where it can be.
func (f *Fleet) fillFrom(ctx context.Context, from string, s record.Slot, to string) error {
	way, err := quota.WayOf(to)
	if err != nil {
		return err
	}
	if way != quota.Kernel {
		return unix.Rename(filepath.Join(from, "upper"), to) // over the empty one
	}
	// What is moved keeps its project, and would be counted nowhere.
	_, err = upper.Copy(ctx, f.layerDirs(s.Base.Digests), from, to, nil)
	return err
}

// takeSnapshotIn gives a board a snapshot that it has not.
func (f *Fleet) takeSnapshotIn(b *board, from string, s record.Snapshot, in *TakenIn) error {
	have, err := record.LoadSnapshots(f.opt.State, b.serial)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(have, func(h record.Snapshot) bool {
		return h.Made.Equal(s.Made) && h.Base.ID == s.Base.ID && h.Note == s.Note
	}) {
		return nil
	}
	n, err := f.nextSnapshot(b.serial)
	if err != nil {
		return err
	}
	p := record.PathsOf(f.opt.State, b.serial)
	if err := os.Rename(from, p.Snapshot(n)); err != nil {
		return err
	}
	in.Snapshots++
	return record.SyncDirs(p.Snapshots())
}

// takeFiles gives a board the files of its own that it has not.
func (f *Fleet) takeFiles(b *board, dir string, in *TakenIn) error {
	names, err := ownFiles(dir)
	if err != nil {
		return err
	}
	to := record.PathsOf(f.opt.State, b.serial).Dir()
	for _, n := range names {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, n), unix.AT_FDCWD, filepath.Join(to, n), unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
			in.Kept = append(in.Kept, n)
		case err != nil:
			return fmt.Errorf("moving %q: %w", n, err)
		}
	}
	return record.SyncDirs(to)
}

// snapshotsIn lists the snapshots in a directory that is not yet a board's.
func snapshotsIn(dir string) ([]record.Snapshot, error) {
	all, err := record.ListSnapshots(filepath.Join(dir, "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}
