package writes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"rubus/boot/record"
	"rubus/overlay"
)

// HasSnapshots says that the board had snapshots, or has.
func (b Board) HasSnapshots() bool {
	_, err := os.Lstat(b.paths().Snapshots())
	return err == nil
}

// NextSnapshot takes the next number, which is on the disk before it is used.
func (b Board) NextSnapshot() (int, error) {
	p := b.paths()
	if err := os.MkdirAll(p.Snapshots(), 0o700); err != nil {
		return 0, fmt.Errorf("making the directory of snapshots: %w", err)
	}
	last := 0
	counter := filepath.Join(p.Snapshots(), "last")
	if b, err := os.ReadFile(counter); err == nil {
		// What is no count is as if it were not there.
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 31); err == nil {
			last = int(n)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	have, err := record.LoadSnapshots(b.State, b.Serial)
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
	return last, record.SyncDirs(p.Snapshots(), p.Dir())
}

// AddSnapshot makes a snapshot whose number was taken: fill copies an upper to where it is told,
// and may say in s how much that is. copied is called when all is on the disk, under a name that
// SweepSnapshots takes; what an error leaves behind has such a name, too.
func (b Board) AddSnapshot(ctx context.Context, s *record.Snapshot, fill func(to string) error, copied func()) error {
	if err := b.SweepSnapshots(ctx); err != nil {
		return err
	}
	p := b.paths()
	tmp := filepath.Join(p.Snapshots(), ".new-"+strconv.Itoa(s.N))
	to := filepath.Join(tmp, "upper")
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	if err := fill(to); err != nil {
		return err
	}
	if err := record.WriteSnapshot(tmp, *s); err != nil {
		return err
	}
	copied()
	if err := os.Rename(tmp, p.Snapshot(s.N)); err != nil {
		return err
	}
	return record.SyncDirs(p.Snapshots())
}

// SweepSnapshots removes what is half made or half removed among a board's snapshots. When
// ctx ends it may be called again.
func (b Board) SweepSnapshots(ctx context.Context) error {
	return overlay.Uppers{Dir: b.paths().Snapshots(), Serial: b.Serial}.Sweep(ctx)
}

// RemoveSnapshot takes a snapshot away; SweepSnapshots removes its files. The error wraps
// record.ErrNotFound when there is none.
func (b Board) RemoveSnapshot(n int) error {
	p := b.paths()
	release, err := record.LockSnapshots(p)
	if err != nil {
		return err
	}
	defer release()
	err = os.Rename(p.Snapshot(n), filepath.Join(p.Snapshots(), ".trash-"+strconv.Itoa(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot %d of board %s: %w", n, b.Serial, record.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("removing snapshot %d of board %s: %w", n, b.Serial, err)
	}
	return record.SyncDirs(p.Snapshots())
}

// OpenSnapshot reads a snapshot of the board, with its base as it is now, and says where
// its upper lies. The error wraps record.ErrNotFound when there is none, and an
// overlay.MissingLayersError where layers below it are gone.
func (b Board) OpenSnapshot(n int) (s record.Snapshot, dir string, err error) {
	dir = b.paths().Snapshot(n)
	s, err = record.ReadSnapshot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, "", record.ErrNotFound
	}
	if err != nil {
		return s, "", err
	}
	base, err := overlay.BaseOf(s.Base.Digests, LayerDirs(b.Layers, s.Base.Digests))
	if err == nil && s.SetAside {
		// Its index names the very objects of its layers.
		err = s.Base.Matches(base)
	}
	if err != nil {
		return s, "", fmt.Errorf("over %s: %w", s.Image, err)
	}
	s.Base = base
	return s, dir, nil
}
