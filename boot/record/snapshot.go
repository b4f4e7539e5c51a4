package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"rubus/config/device"
	"rubus/images/imageref"
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

// SnapshotFile is in the directory of each snapshot, and says what it is.
const SnapshotFile = "snapshot.json"

// Snapshots is where the board's snapshots are, each in a directory of its number.
func (p Paths) Snapshots() string { return filepath.Join(p.Dir(), "snapshots") }

// Snapshot is the directory of one.
func (p Paths) Snapshot(n int) string {
	return filepath.Join(p.Snapshots(), strconv.Itoa(n))
}

// LoadSnapshots lists a board's snapshots, the oldest first. One that cannot be read is an error.
func LoadSnapshots(state string, serial device.Serial) ([]Snapshot, error) {
	out, err := ListSnapshots(PathsOf(state, serial).Snapshots())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots of board %s: %w", serial, err)
	}
	return out, nil
}

// ListSnapshots is LoadSnapshots for a directory of snapshots.
func ListSnapshots(dir string) ([]Snapshot, error) {
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
		at := filepath.Join(dir, e.Name())
		s, err := ReadSnapshot(at)
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := os.Lstat(at); errors.Is(gone, fs.ErrNotExist) {
				continue // removed since
			}
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot %d: %v", n, err) //nolint:errorlint // none that is missing: it is broken
		}
		s.N = n
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return a.N - b.N })
	return out, nil
}

// ReadSnapshot reads the snapshot.json in a directory.
func ReadSnapshot(dir string) (s Snapshot, err error) {
	b, err := os.ReadFile(filepath.Join(dir, SnapshotFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %q: %w", filepath.Join(dir, SnapshotFile), err)
	}
	return s, nil
}

// WriteSnapshot puts a snapshot.json into a directory: whole, and before it returns.
func WriteSnapshot(dir string, s Snapshot) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(dir, SnapshotFile), append(b, '\n'), 0o600); err != nil {
		return err
	}
	return SyncDirs(dir)
}

// errReading says that a backup reads a board's snapshots.
var errReading = errors.New("a backup reads them")

// KeepSnapshots sees to it that no snapshot of a board goes until release is called, or
// this process ends.
func KeepSnapshots(state string, serial device.Serial) (release func(), err error) {
	return flockSnapshots(PathsOf(state, serial), unix.LOCK_SH)
}

// LockSnapshots is for who removes a snapshot: the error says that somebody reads them.
func LockSnapshots(p Paths) (release func(), err error) { return flockSnapshots(p, unix.LOCK_EX) }

// flockSnapshots locks the directory of snapshots, if there is one; it does not wait.
func flockSnapshots(p Paths, how int) (release func(), err error) {
	d, err := os.Open(p.Snapshots())
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), how|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errReading
		}
		return nil, fmt.Errorf("locking the snapshots of board %s: %w", p.serial, err)
	}
	return func() { d.Close() }, nil
}
