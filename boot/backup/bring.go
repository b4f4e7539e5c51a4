package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/archive"
	"rubus/images/imageref"
)

// NeedError says which layers a board stands on that are not here.
type NeedError struct {
	Image   imageref.Ref
	Digests []string // those missing
}

// Error implements error.
func (e *NeedError) Error() string {
	return fmt.Sprintf("it stands on %s, and layer %.12s of it is not here", e.Image, e.Digests[0])
}

// Hint says what to do.
func (e *NeedError) Hint() string {
	return "back up with --images, or import what that version was made of: layers go by their content"
}

// find is a Find over the versions that are here or in the backup.
func (s *Staged) find() (Find, error) {
	have, err := s.o.Store.List()
	if err != nil {
		return nil, err
	}
	its, err := versions(s.images)
	if err != nil {
		return nil, err
	}
	all := append(have, its.Versions...)
	return func(wanted imageref.Ref, digests []string) (imageref.Ref, error) {
		var missing []string
		for _, d := range digests {
			if _, err := os.Stat(s.o.Store.LayerDir(d)); err != nil {
				missing = append(missing, d)
			}
		}
		if len(missing) > 0 {
			return wanted, &NeedError{wanted, missing}
		}
		found, taken := imageref.Ref{}, false
		for _, v := range all {
			same := slices.EqualFunc(v.Layers, digests, func(l images.Layer, d string) bool { return l.Digest == d })
			switch {
			case same && v.Ref == wanted && !taken:
				return wanted, nil
			case v.Ref == wanted:
				taken = true
			}
			if same && found.IsZero() {
				found = v.Ref
			}
		}
		if !found.IsZero() {
			return found, nil
		}
		if taken {
			return wanted, fmt.Errorf("it stands on %s, and the version that is called so here has other layers", wanted)
		}
		return wanted, nil
	}, nil
}

// Adopt makes the versions of the backup, those that are not here. Call it before Bring.
func (s *Staged) Adopt(ctx context.Context) ([]imageref.Ref, error) {
	return adopt(ctx, s.o.Store, s.images)
}

// TakeIn is boot.Fleet.TakeIn, here or in the daemon. The directory lies in the
// stage: devices/STAGE/out/SERIAL.
type TakeIn func(ctx context.Context, serial device.Serial, stage string) (writes.TakenIn, error)

// TakeInDir is the directory that TakeIn is about; ok is false for no name of a stage.
func TakeInDir(state, stage string, serial device.Serial) (dir string, ok bool) {
	id, ok := strings.CutPrefix(stage, stagePrefix)
	if !ok || id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", false
	}
	return filepath.Join(state, "devices", stage, outDir, serial.String()), true
}

const outDir = "out"

// Bring brings one board back: all of it, or nothing.
func (s *Staged) Bring(ctx context.Context, serial device.Serial, take TakeIn) (writes.TakenIn, error) {
	u := s.boards[serial]
	if u == nil {
		return writes.TakenIn{}, fmt.Errorf("board %s is not in the backup", serial)
	}
	find, err := s.find()
	if err != nil {
		return writes.TakenIn{}, err
	}
	b, err := Bind(u.packed, s.o.Store, find)
	if err != nil {
		return writes.TakenIn{}, err
	}
	dir := filepath.Join(s.dir, outDir, serial.String())
	if err := s.assemble(b, dir); err != nil {
		return writes.TakenIn{}, fmt.Errorf("preparing board %s: %w", serial, err)
	}
	return take(ctx, serial, filepath.Base(s.dir))
}

// assemble puts the parts of a board in their places.
func (s *Staged) assemble(b *Bound, dir string) error {
	at, err := s.last()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	for _, p := range slices.Backward(b.Parts()) { // the directory itself first
		from := filepath.Join(at, b.Serial.String(), p)
		rel, ok := b.Place(p)
		if !ok {
			return fmt.Errorf("part %q has no place", p)
		}
		to := filepath.Join(dir, rel)
		if rel == "" {
			if err := ownFilesOnly(from); err != nil {
				return err
			}
		} else if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
		if rel == "" {
			if err := errors.Join(os.Chown(to, 0, 0), os.Chmod(to, 0o700)); err != nil {
				return err
			}
		}
	}
	return b.Write(dir)
}

// last is where the last backup of the chain lies.
func (s *Staged) last() (string, error) {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return "", err
	}
	for _, e := range names {
		if e.Name() != outDir && e.Name()[0] != '.' {
			return filepath.Join(s.dir, e.Name()), nil
		}
	}
	return "", fs.ErrNotExist
}

// ownFilesOnly refuses what no daemon keeps: the daemon would follow a link, and a board's
// record is not the archive's to write.
func ownFilesOnly(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		switch e.Name() {
		case "device.json", "uppers", "snapshots", "boot":
			return fmt.Errorf("a board's own files have the name %q: %w", e.Name(), archive.ErrBroken)
		}
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !d.Type().IsRegular() {
			err = fmt.Errorf("%q is neither a file nor a directory: %w", filepath.Base(p), archive.ErrBroken)
		}
		return err
	})
}

// HasState says whether the backup has what the state directory has beside boards and images.
func (s *Staged) HasState() bool { return s.state != "" }

// BringState puts back what the state directory has beside boards and images, where it is
// not there; it says what it put. The daemon must not run.
func (s *Staged) BringState() (put []string, err error) {
	if s.state == "" {
		return nil, nil
	}
	if err := ownFilesOnly(s.state); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(s.state)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		if slices.Contains(notState(), e.Name()) {
			return put, fmt.Errorf("the state directory's own files have the name %q: %w", e.Name(), archive.ErrBroken)
		}
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(s.state, e.Name()), unix.AT_FDCWD, filepath.Join(s.o.State, e.Name()), unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return put, err
		}
		put = append(put, e.Name())
	}
	d, err := os.Open(s.o.State)
	if err != nil {
		return put, err
	}
	defer d.Close()
	return put, d.Sync()
}
