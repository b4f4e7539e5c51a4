package writes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/boot/record"
	"rubus/config/device"
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

// NotFiles are the names in a board's directory that a backup has otherwise, or that are
// of no use elsewhere: the boot files kept of boots of that root.
func NotFiles() []string { return []string{record.File, "uppers", "snapshots", "boot"} }

// OwnFiles lists what a board's directory has beside its uppers.
func OwnFiles(dir string) (out []string, err error) {
	names, err := os.ReadDir(dir)
	for _, e := range names {
		if !slices.Contains(NotFiles(), e.Name()) && e.Name()[0] != '.' {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// SnapshotsIn lists the snapshots in a directory that is not yet a board's.
func SnapshotsIn(dir string) ([]record.Snapshot, error) {
	all, err := record.ListSnapshots(filepath.Join(dir, "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// TakeSnapshotIn gives the board a snapshot, the directory from, if it has none like it: it
// says whether it did.
func (b Board) TakeSnapshotIn(from string, s record.Snapshot) (bool, error) {
	have, err := record.LoadSnapshots(b.State, b.Serial)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(have, func(h record.Snapshot) bool {
		return h.Made.Equal(s.Made) && h.Base.ID == s.Base.ID && h.Note == s.Note
	}) {
		return false, nil
	}
	n, err := b.NextSnapshot()
	if err != nil {
		return false, err
	}
	p := b.paths()
	if err := os.Rename(from, p.Snapshot(n)); err != nil {
		return false, err
	}
	return true, record.SyncDirs(p.Snapshots())
}

// TakeFiles gives the board the files of its own in a directory that it has not. Kept are the
// names of those that it has.
func (b Board) TakeFiles(dir string) (kept []string, err error) {
	names, err := OwnFiles(dir)
	if err != nil {
		return kept, err
	}
	to := b.paths().Dir()
	for _, n := range names {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, n), unix.AT_FDCWD, filepath.Join(to, n), unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
			kept = append(kept, n)
		case err != nil:
			return kept, fmt.Errorf("moving %q: %w", n, err)
		}
	}
	return kept, record.SyncDirs(to)
}

// FinishReplaces ends what a replacement was doing when the daemon was killed: a directory whose
// record says that another board's it is to be.
func FinishReplaces(state string) error {
	serials, err := record.Serials(state)
	if err != nil {
		return err
	}
	for _, s := range serials {
		var to struct {
			Serial   device.Serial `json:"serial"`
			Replaces device.Serial `json:"replaces"`
		}
		b, err := os.ReadFile(record.PathsOf(state, s).Record())
		if err != nil || json.Unmarshal(b, &to) != nil || to.Replaces != s || to.Serial.IsZero() || slices.Contains(serials, to.Serial) {
			continue // what is wrong with a record is told when it is loaded
		}
		p := record.PathsOf(state, to.Serial)
		if err := os.Rename(record.PathsOf(state, s).Dir(), p.Dir()); err != nil {
			return fmt.Errorf("finishing that board %s replaces %s: %w", to.Serial, s, err)
		}
		serials = append(serials, to.Serial) // another's name it may be only once
		if err := record.SyncDirs(filepath.Dir(p.Dir())); err != nil {
			return err
		}
	}
	return nil
}
