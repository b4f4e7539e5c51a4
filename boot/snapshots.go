package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
	"rubus/nfsexport"
	"rubus/overlay"
)

// Snapshot is a kept state of a board's writes: devices/SERIAL/snapshots/N with
// snapshot.json and upper. One that was a root before, and was set aside, has its
// work directory too.
type Snapshot struct {
	// N counts a board's snapshots from 1; it is never used twice.
	N    int       `json:"n"`
	Made time.Time `json:"made"`
	Note string    `json:"note,omitempty"`
	// Image is the version that the writes were made over.
	Image imageref.Ref `json:"image"`
	Base  overlay.Base `json:"base"`
	Boot  string       `json:"boot"`
	Bytes int64        `json:"bytes"`
	Files int64        `json:"files"`
	// SetAside says that it was the board's own upper, moved as it was.
	SetAside bool `json:"set_aside,omitempty"`
	// Expires is when it is removed; zero: never.
	Expires time.Time `json:"expires,omitzero"`
}

// Steps of a change of a board's state, for tests of crashes.
const (
	stepCopied   = "copied"   // all is on the disk, under a name that is swept
	stepBuilt    = "built"    // a new upper is there, and no record names it
	stepIntended = "intended" // what will be set aside is marked
	stepRecorded = "recorded" // the record is written
	stepMoved    = "moved"    // one upper was set aside
)

func (f *Fleet) step(name string) {
	if f.opt.Step != nil {
		f.opt.Step(name)
	}
}

const snapshotFile = "snapshot.json"

func (p boardPaths) snapshots() string { return filepath.Join(p.dir(), "snapshots") }
func (p boardPaths) snapshot(n int) string {
	return filepath.Join(p.snapshots(), strconv.Itoa(n))
}

// loadSnapshots lists a board's snapshots, the oldest first. One that cannot be read is an error.
func loadSnapshots(state string, serial device.Serial) ([]Snapshot, error) {
	out, err := listSnapshots(pathsOf(state, serial).snapshots())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots of board %s: %w", serial, err)
	}
	return out, nil
}

// listSnapshots is loadSnapshots for a directory.
func listSnapshots(dir string) ([]Snapshot, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < 1 || strconv.Itoa(n) != e.Name() {
			continue
		}
		s, err := readSnapshot(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("snapshot %d: %v", n, err) //nolint:errorlint // none that is missing: it is broken
		}
		s.N = n
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return a.N - b.N })
	return out, nil
}

func readSnapshot(dir string) (s Snapshot, err error) {
	b, err := os.ReadFile(filepath.Join(dir, snapshotFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %q: %w", filepath.Join(dir, snapshotFile), err)
	}
	return s, nil
}

func writeSnapshot(dir string, s Snapshot) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(dir, snapshotFile), append(b, '\n'), 0o600); err != nil {
		return err
	}
	return syncDirs(dir)
}

func (f *Fleet) hasSnapshots(serial device.Serial) bool {
	_, err := os.Lstat(pathsOf(f.opt.State, serial).snapshots())
	return err == nil
}

// nextSnapshot takes the next number, which is on the disk before it is used. The
// caller holds work.
func (f *Fleet) nextSnapshot(serial device.Serial) (int, error) {
	p := pathsOf(f.opt.State, serial)
	if err := os.MkdirAll(p.snapshots(), 0o700); err != nil {
		return 0, fmt.Errorf("making the directory of snapshots: %w", err)
	}
	last := 0
	counter := filepath.Join(p.snapshots(), "last")
	if b, err := os.ReadFile(counter); err == nil {
		last, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	have, err := loadSnapshots(f.opt.State, serial)
	if err != nil {
		return 0, err
	}
	for _, s := range have {
		last = max(last, s.N)
	}
	last++
	if err := renameio.WriteFile(counter, []byte(strconv.Itoa(last)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("counting snapshots: %w", err)
	}
	return last, syncDirs(p.snapshots(), p.dir())
}

// Snapshots lists a board's snapshots, the oldest first.
func (f *Fleet) Snapshots(serial device.Serial) ([]Snapshot, error) {
	return loadSnapshots(f.opt.State, serial)
}

// Snapshot copies what a board wrote, as it is now. The writes of a board that runs
// are held meanwhile, without an error; the copy is what a power cut now would
// leave. It blocks while it copies. A board that begins to boot does not wait for that: the
// copy is given up, with ErrBoots.
func (f *Fleet) Snapshot(ctx context.Context, serial device.Serial, note string, progress func(upper.Size)) (Snapshot, error) {
	b := f.known(serial)
	if b == nil {
		return Snapshot{}, fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return Snapshot{}, err
	}
	defer b.unlock()
	if err := b.usable(); err != nil {
		return Snapshot{}, err
	}
	slot, err := f.writtenSlot(b)
	if err != nil {
		return Snapshot{}, err
	}
	u, err := f.uppers(serial).Usage(ctx, slot.upperID())
	if err != nil {
		return Snapshot{}, err
	}
	if err := f.fits(u.Bytes); err != nil {
		return Snapshot{}, fmt.Errorf("taking a snapshot of board %s: %w", serial, err)
	}
	s := Snapshot{Made: f.opt.Now().UTC(), Note: note, Image: slot.Image, Base: slot.Base, Boot: slot.Boot}
	if s.N, err = f.nextSnapshot(serial); err != nil {
		return Snapshot{}, err
	}
	ctx, done := b.givesWay(ctx)
	err = f.takeSnapshot(ctx, b, slot, &s, progress)
	if done(); err != nil {
		if errors.Is(context.Cause(ctx), ErrBoots) {
			err = ErrBoots
		}
		return Snapshot{}, fmt.Errorf("taking a snapshot of board %s: %w", serial, err)
	}
	f.log.Info("snapshot taken", "serial", serial, "snapshot", s.N, "bytes", s.Bytes, "files", s.Files)
	return s, nil
}

func (f *Fleet) takeSnapshot(ctx context.Context, b *board, slot Slot, s *Snapshot, progress func(upper.Size)) error {
	p := pathsOf(f.opt.State, b.serial)
	tmp := filepath.Join(p.snapshots(), ".new-"+strconv.Itoa(s.N))
	clean := func() error { return f.snapshotDirs(b.serial).Sweep(context.WithoutCancel(ctx)) }
	if err := clean(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(tmp, "upper"), 0o700); err != nil {
		return err
	}
	size, err := f.copyHeld(ctx, b, slot, filepath.Join(tmp, "upper"), progress)
	if err == nil {
		s.Bytes, s.Files = size.Bytes, size.Files
		err = writeSnapshot(tmp, *s)
	}
	if err != nil {
		return errors.Join(err, clean())
	}
	f.step(stepCopied)
	if err := os.Rename(tmp, p.snapshot(s.N)); err != nil {
		return errors.Join(err, clean())
	}
	return syncDirs(p.snapshots())
}

// copyHeld copies the upper of a slot while its board's changes are held.
func (f *Fleet) copyHeld(ctx context.Context, b *board, slot Slot, to string, progress func(upper.Size)) (upper.Size, error) {
	release, err := f.opt.Exporter.Hold(ctx, slot.Export)
	if errors.Is(err, nfsexport.ErrCalled) {
		return upper.Size{}, fmt.Errorf("%w: %w", ErrUp, err)
	}
	if err != nil {
		return upper.Size{}, err
	}
	defer release()
	spec := f.spec(b.serial, slot)
	return upper.Copy(ctx, spec.LayerDirs, spec.UpperDir, to, progress)
}

// writtenSlot is the slot whose writes are the board's: its present root's, or those
// that it would boot with. The error wraps ErrNotFound when it wrote nothing.
func (f *Fleet) writtenSlot(b *board) (Slot, error) {
	rec := b.record()
	for _, s := range append(rec.persistent(), rec.ephemeral()...) {
		isEmpty, err := f.upperEmpty(b, s)
		if err != nil {
			return Slot{}, err
		}
		if !isEmpty {
			return s, nil
		}
	}
	return Slot{}, fmt.Errorf("board %s: it has written nothing: %w", b.serial, ErrNotFound)
}

// snapshotDirs sweeps what is half made or half removed among a board's snapshots.
func (f *Fleet) snapshotDirs(serial device.Serial) overlay.Uppers {
	return overlay.Uppers{Dir: pathsOf(f.opt.State, serial).snapshots(), Serial: serial}
}

// RemoveSnapshot removes a snapshot of a board. It blocks while it removes files.
func (f *Fleet) RemoveSnapshot(ctx context.Context, serial device.Serial, n int) error {
	b := f.known(serial)
	if b == nil {
		return fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	return f.removeSnapshot(ctx, serial, n)
}

func (f *Fleet) removeSnapshot(ctx context.Context, serial device.Serial, n int) error {
	p := pathsOf(f.opt.State, serial)
	release, err := lockSnapshots(p, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer release()
	err = os.Rename(p.snapshot(n), filepath.Join(p.snapshots(), ".trash-"+strconv.Itoa(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot %d of board %s: %w", n, serial, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("removing snapshot %d of board %s: %w", n, serial, err)
	}
	if err := syncDirs(p.snapshots()); err != nil {
		return err
	}
	f.log.Info("snapshot removed", "serial", serial, "snapshot", n)
	return f.snapshotDirs(serial).Sweep(ctx)
}

// expire removes the snapshots of a board whose time is over.
func (f *Fleet) expire(ctx context.Context, b *board) {
	all, err := loadSnapshots(f.opt.State, b.serial)
	if err != nil {
		f.log.Warn("a board's snapshots cannot be read", "serial", b.serial, "err", err)
		return
	}
	for _, s := range all {
		if s.Expires.IsZero() || f.opt.Now().Before(s.Expires) || !b.tryLock() {
			continue
		}
		err := f.removeSnapshot(ctx, b.serial, s.N)
		b.unlock()
		if err != nil {
			f.log.Warn("a snapshot whose time is over stays", "serial", b.serial, "snapshot", s.N, "err", err)
		}
	}
}
