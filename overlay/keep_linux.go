package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Build makes the nth upper over a base with what fill puts in its directory,
// attributes included. It is there whole or not at all, and on the disk; one that is
// there already is an error. It may block for as long as fill does.
func (u Uppers) Build(ctx context.Context, base Base, n int, fill func(upper string) error) (UpperID, error) {
	if !isBaseID(base.ID) || n < 1 {
		return "", fmt.Errorf("building upper %d over base id %q: want a number from 1 and 16 hex digits", n, base.ID)
	}
	id := MakeUpperID(base.ID, n)
	if _, err := os.Lstat(u.Path(id)); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("building upper %q: %w", id, errors.Join(fs.ErrExist, err))
	}
	err := u.build(ctx, id, fill)
	if err != nil {
		// What is left is swept at the next start at the latest.
		clean := u.removeDir(context.WithoutCancel(ctx), newPrefix+string(id))
		return "", fmt.Errorf("building upper %q: %w", id, errors.Join(err, clean))
	}
	return id, nil
}

func (u Uppers) build(ctx context.Context, id UpperID, fill func(upper string) error) error {
	if err := os.MkdirAll(u.Dir, 0o700); err != nil {
		return err
	}
	if err := u.removeDir(ctx, newPrefix+string(id)); err != nil {
		return err
	}
	return u.put(id, fill)
}

// Give moves an upper, its work directory and index included, to the path to, which
// is on the same file system and where nothing is. It refuses while a mount uses it.
func (u Uppers) Give(id UpperID, to string) error {
	if err := u.unused(id); err != nil {
		return fmt.Errorf("moving upper %q of %s: %w", id, u.Serial, err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("moving upper %q of %s to %q: %w", id, u.Serial, to, errors.Join(fs.ErrExist, err))
	}
	if err := os.Rename(u.Path(id), to); err != nil {
		return fmt.Errorf("moving upper %q of %s: %w", id, u.Serial, err)
	}
	return errors.Join(syncDir(u.Dir), syncDir(filepath.Dir(to)))
}
