package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rubus/config/device"
)

// UpperID names one upper of a board: "<base>.<n>". An UpperID that was parsed
// or made here is safe as a path element.
type UpperID string

// MakeUpperID names the nth upper over a base; n counts from 1.
func MakeUpperID(baseID string, n int) UpperID {
	return UpperID(baseID + "." + strconv.Itoa(n))
}

// ParseUpperID reads what MakeUpperID wrote.
func ParseUpperID(s string) (UpperID, error) {
	base, num, ok := strings.Cut(s, ".")
	n, err := strconv.Atoi(num)
	if !ok || err != nil || n < 1 || !isBaseID(base) || string(MakeUpperID(base, n)) != s {
		return "", fmt.Errorf("upper %q: want 16 hex digits, a dot and a number from 1", s)
	}
	return UpperID(s), nil
}

func isBaseID(s string) bool {
	return len(s) == 16 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	})
}

// Base is the id of the base the upper was made over.
func (u UpperID) Base() string {
	base, _, _ := strings.Cut(string(u), ".")
	return base
}

// N is the number behind the base.
func (u UpperID) N() int {
	_, num, _ := strings.Cut(string(u), ".")
	n, _ := strconv.Atoi(num)
	return n
}

// Uppers is the directory with all uppers of one board,
// <devices>/<serial>/uppers: in it <upper id>/{upper,work}. Names that begin
// with a dot are half-made or half-removed; Sweep removes them.
type Uppers struct {
	Dir    string
	Serial device.Serial
	// Fresh, when not nil, is called with the directory of each upper that is made,
	// before anything is in its upper and work directories.
	Fresh func(dir string) error
}

func (u Uppers) fresh(dir string) error {
	if u.Fresh == nil {
		return nil
	}
	return u.Fresh(dir)
}

// UppersOf is where a board's uppers are below the devices directory.
func UppersOf(devices string, serial device.Serial) Uppers {
	return Uppers{Dir: filepath.Join(devices, serial.String(), "uppers"), Serial: serial}
}

const (
	newPrefix   = ".new-"
	trashPrefix = ".trash-"
)

// Path is the directory of one upper, Spec.UpperDir.
func (u Uppers) Path(id UpperID) string { return filepath.Join(u.Dir, string(id)) }

// List names the uppers there are, sorted. A missing directory has none.
func (u Uppers) List() ([]UpperID, error) {
	entries, err := os.ReadDir(u.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing uppers: %w", err)
	}
	var ids []UpperID
	for _, e := range entries {
		if id, err := ParseUpperID(e.Name()); err == nil && e.IsDir() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b UpperID) int {
		if c := strings.Compare(a.Base(), b.Base()); c != 0 {
			return c
		}
		return a.N() - b.N()
	})
	return ids, nil
}

// Create makes the nth upper, empty, over a base whose top layer is in
// topLayer. The caller counts: a number is never used twice for a board. It is
// on disk whole or not at all; one that is there already is an error. The
// caller sees to it that no other Create runs for the board.
func (u Uppers) Create(base Base, n int, topLayer string) (UpperID, error) {
	if !isBaseID(base.ID) || n < 1 {
		return "", fmt.Errorf("creating upper %d over base id %q: want a number from 1 and 16 hex digits", n, base.ID)
	}
	id := MakeUpperID(base.ID, n)
	if _, err := os.Lstat(u.Path(id)); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("creating upper %q: %w", id, errors.Join(fs.ErrExist, err))
	}
	if err := u.create(id, topLayer); err != nil {
		return "", fmt.Errorf("creating upper %q: %w", id, err)
	}
	return id, nil
}

func (u Uppers) create(id UpperID, topLayer string) error {
	if err := os.MkdirAll(u.Dir, 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(u.Dir, newPrefix+string(id))
	// What an earlier Create left when it was killed has nothing in it.
	for _, d := range []string{"upper", "work", ""} {
		if err := os.Remove(filepath.Join(tmp, d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// The merged root shows the owner and mode of the upper's, not the layer's.
	return u.put(id, func(upper string) error { return copyAttributes(topLayer, upper) })
}

// put makes an upper with what fill puts in it, in a directory beside its own, where nothing is.
func (u Uppers) put(id UpperID, fill func(upper string) error) error {
	tmp := filepath.Join(u.Dir, newPrefix+string(id))
	for _, d := range []string{"", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o700); err != nil {
			return err
		}
	}
	if err := u.fresh(tmp); err != nil {
		return err
	}
	if err := fill(filepath.Join(tmp, "upper")); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work", ""} {
		if err := syncDir(filepath.Join(tmp, d)); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, u.Path(id)); err != nil {
		return err
	}
	return syncDir(u.Dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Remove deletes an upper with all a board wrote to it. It refuses while a
// mount uses the upper or lies below it. It never leaves the mount that the
// upper lies on, and carries on at the next Sweep when it was killed.
func (u Uppers) Remove(ctx context.Context, id UpperID) error {
	if _, err := ParseUpperID(string(id)); err != nil {
		return err
	}
	if err := u.unused(id); err != nil {
		return fmt.Errorf("removing upper %q of %s: %w", id, u.Serial, err)
	}
	trash := trashPrefix + string(id)
	err := os.Rename(u.Path(id), filepath.Join(u.Dir, trash))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u.removeDir(ctx, trash) // gone, or half removed before
	case errors.Is(err, fs.ErrExist):
		// A leftover of an upper with the same number.
		if err := u.removeDir(ctx, trash); err != nil {
			return err
		}
		err = os.Rename(u.Path(id), filepath.Join(u.Dir, trash))
	}
	if err != nil {
		return fmt.Errorf("removing upper %q of %s: %w", id, u.Serial, err)
	}
	if err := syncDir(u.Dir); err != nil {
		return fmt.Errorf("removing upper %q of %s: %w", id, u.Serial, err)
	}
	return u.removeDir(ctx, trash)
}

// Sweep removes what a killed Create or Remove left behind. Call it at start,
// before any board of this serial is prepared.
func (u Uppers) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(u.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("sweeping uppers: %w", err))
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), trashPrefix) {
			errs = append(errs, u.removeDir(ctx, e.Name()))
		}
	}
	return errors.Join(errs...)
}
