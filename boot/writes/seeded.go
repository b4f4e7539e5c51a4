package writes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"rubus/boot/rootfile"
)

// seededFile, beside an upper, holds a digest of the upper as it was when the board's
// identity had been put into it: an upper that still is the same holds nothing of the
// board's own.
const seededFile = "seeded"

// maxSeeded bounds the names of an upper that may all be the server's.
const maxSeeded = 1024

// upperDigest is a digest of an upper with its index. dir is the upper's directory.
func upperDigest(dir string) (string, error) {
	own, err := rootfile.Digest(filepath.Join(dir, "upper"), maxSeeded)
	if err != nil {
		return "", err
	}
	index, err := rootfile.Digest(filepath.Join(dir, "work", "index"), maxSeeded)
	if errors.Is(err, fs.ErrNotExist) {
		index, err = "none", nil // before the first mount
	}
	return own + " " + index + "\n", err
}

// MarkSeeded says of an upper that all it holds is the server's.
func MarkSeeded(dir string) error {
	d, err := upperDigest(dir)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, seededFile), []byte(d), 0o600, renameio.WithTempDir(dir))
	}
	if err != nil {
		return fmt.Errorf("noting what the server wrote: %w", err)
	}
	return nil
}

// onlySeeded says whether an upper holds what the server put there, and nothing else.
func onlySeeded(dir string) (bool, error) {
	was, err := os.ReadFile(filepath.Join(dir, seededFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking into upper: %w", err)
	}
	now, err := upperDigest(dir)
	if errors.Is(err, rootfile.ErrMany) {
		return false, nil
	}
	return err == nil && now == string(was), err
}
