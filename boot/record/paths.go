package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rubus/config/device"
	"rubus/images"
)

// Paths are those of one board below the state directory.
type Paths struct{ state, serial string }

// PathsOf names the paths of a board.
func PathsOf(state string, s device.Serial) Paths { return Paths{state, s.String()} }

// Dir has all that is kept of the board.
func (p Paths) Dir() string { return filepath.Join(p.state, "devices", p.serial) }

// Record is the board's device.json.
func (p Paths) Record() string { return filepath.Join(p.Dir(), File) }

// Roots has the board's mount points.
func (p Paths) Roots() string { return filepath.Join(p.state, "roots", p.serial) }

// Root is the mount point of slot n.
func (p Paths) Root(n int) string {
	return filepath.Join(p.Roots(), fmt.Sprint(n))
}

// BackendFile keeps which server the boards' roots of a state directory were served by last.
func BackendFile(state string) string { return filepath.Join(state, "nfs.backend") }

// KernelServes is what it says of the kernel's.
const KernelServes = "kernel"

// Serials lists the boards that have a directory in the state directory.
func Serials(state string) ([]device.Serial, error) {
	entries, err := os.ReadDir(filepath.Join(state, "devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the boards: %w", err)
	}
	var out []device.Serial
	for _, e := range entries {
		// A name that is no serial in its own spelling is not ours.
		if s, err := device.ParseSerial(e.Name()); err == nil && s.String() == e.Name() && e.IsDir() {
			out = append(out, s)
		}
	}
	return out, nil
}

// Uses tells the image store which versions and layers boards stand on. A
// record that cannot be read is an error: then nothing may be removed.
func Uses(state string) ([]images.Use, error) {
	serials, err := Serials(state)
	if err != nil {
		return nil, err
	}
	var uses []images.Use
	for _, s := range serials {
		r, err := Load(state, s)
		if err != nil {
			return nil, err
		}
		for _, slot := range r.Slots {
			uses = append(uses, images.Use{
				Ref: slot.Image, Layers: slices.Clone(slot.Base.Digests),
				Who: fmt.Sprintf("board %s (%s root)", s, strings.ToLower(string(slot.State))),
			})
		}
		if m := r.Move; m != nil && !m.IsOver() {
			uses = append(uses, images.Use{Ref: m.To, Layers: slices.Clone(m.Layers), Who: fmt.Sprintf("board %s (to move to it)", s)})
		}
		snapshots, err := LoadSnapshots(state, s)
		if err != nil {
			return nil, err
		}
		for _, snap := range snapshots {
			uses = append(uses, images.Use{
				Ref: snap.Image, Layers: slices.Clone(snap.Base.Digests), Who: fmt.Sprintf("board %s (snapshot %d)", s, snap.N),
			})
		}
	}
	return uses, nil
}

// SyncDirs sees to it that the names in directories are on the disk.
func SyncDirs(dirs ...string) error {
	for _, d := range dirs {
		f, err := os.Open(d)
		if err != nil {
			return fmt.Errorf("syncing a directory: %w", err)
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return fmt.Errorf("syncing %q: %w", d, err)
		}
	}
	return nil
}
