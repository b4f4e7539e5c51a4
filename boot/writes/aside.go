package writes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"rubus/boot/record"
	"rubus/overlay"
)

// unrecordedFile, beside a new upper, says that no record has named it yet: a crash may
// have come between.
const unrecordedFile = "unrecorded"

// Unrecorded says of a new upper, that of to, that no record names it yet.
func Unrecorded(to string) error {
	return os.WriteFile(filepath.Join(filepath.Dir(to), unrecordedFile), nil, 0o600)
}

// Recorded says that the record on disk names the upper. If it cannot be written, Finish is
// not misled: it is asked of uppers that no record names.
func (b Board) Recorded(id overlay.UpperID) {
	_ = os.Remove(filepath.Join(b.Uppers().Path(id), unrecordedFile))
}

// Mark writes into the directory of an upper what snapshot it is to become, and numbers it. It
// is set aside now, and goes at expires.
func (b Board) Mark(ctx context.Context, s record.Slot, note string, now, expires time.Time) (int, error) {
	u, err := b.Uppers().Usage(ctx, s.UpperID())
	if err != nil {
		return 0, err
	}
	n, err := b.NextSnapshot()
	if err != nil {
		return 0, err
	}
	snap := record.Snapshot{
		N: n, Made: now.UTC(), Note: note, Image: s.Image, Base: s.Base, Boot: s.Boot, Bytes: u.Bytes, Files: u.Files,
		SetAside: true, Expires: expires.UTC(),
	}
	if err := record.WriteSnapshot(b.Uppers().Path(s.UpperID()), snap); err != nil {
		return 0, fmt.Errorf("marking upper %q: %w", s.UpperID(), err)
	}
	return n, nil
}

// KeepMarked moves an upper that Mark has marked to its place among the snapshots.
func (b Board) KeepMarked(id overlay.UpperID) error {
	s, err := record.ReadSnapshot(b.Uppers().Path(id))
	if err != nil {
		return err
	}
	if s.N < 1 {
		return fmt.Errorf("upper %q is marked as snapshot %d", id, s.N)
	}
	return b.Uppers().Give(id, b.paths().Snapshot(s.N))
}

// Finish ends what a crash left of a change with an upper that no slot names: one
// that was marked goes to the snapshots, and a new one that never came into use away.
func (b Board) Finish(ctx context.Context, id overlay.UpperID) (done bool, err error) {
	dir := b.Uppers().Path(id)
	for _, c := range []struct {
		file string
		do   func() error
	}{
		{record.SnapshotFile, func() error { return b.KeepMarked(id) }},
		{unrecordedFile, func() error { return b.Uppers().Remove(ctx, id) }},
	} {
		switch _, err := os.Lstat(filepath.Join(dir, c.file)); {
		case err == nil:
			return true, c.do()
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		}
	}
	return false, nil
}
