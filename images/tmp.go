package images

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// tmpDir is a directory in tmp/ that belongs to this process for as long as it
// keeps fd open: the flock on it ends with the process, however it ends.
type tmpDir struct {
	rel string // relative to the store
	fd  int
}

// newTmp makes a directory in tmp/. The caller holds the store's lock, shared or exclusive: so
// nobody sweeps between making and locking it.
func (s *Store) newTmp(what string) (*tmpDir, error) {
	rel := filepath.Join("tmp", what+"-"+strings.ToLower(rand.Text()))
	full := filepath.Join(s.dir, rel)
	if err := os.Mkdir(full, dirMode); err != nil {
		return nil, err
	}
	fd, err := onefs.OpenRoot(full)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("locking %q: %w", full, err)
	}
	// A journal may name it: then it must be there after a power cut.
	if err := syncDir(filepath.Dir(full)); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &tmpDir{rel: rel, fd: fd}, nil
}

// remove removes the directory with all below and gives it up.
func (t *tmpDir) remove(s *Store) error {
	defer unix.Close(t.fd)
	tmp, err := onefs.OpenRoot(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return err
	}
	defer unix.Close(tmp)
	if err := onefs.RemoveTelling(tmp, filepath.Base(t.rel), s.Removed); err != nil {
		return fmt.Errorf("in %q: %w", filepath.Join(s.dir, "tmp"), err)
	}
	return nil
}

func (s *Store) tmpEmpty() (bool, error) {
	names, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return false, fmt.Errorf("opening the image store: %w", err)
	}
	return len(names) == 0, nil
}

// sweep removes what dead processes left in tmp/. What a living one holds stays.
func (s *Store) sweep(ctx context.Context) error {
	stale, err := s.stale(ctx)
	for _, t := range stale {
		if e := t.remove(s); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// stale takes over the directories in tmp/ that nobody holds, and removes
// files: those are written only under the lock, which we have.
func (s *Store) stale(ctx context.Context) ([]*tmpDir, error) {
	release, err := s.change(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	names, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return nil, err
	}
	var out []*tmpDir
	for _, e := range names {
		rel := filepath.Join("tmp", e.Name())
		full := filepath.Join(s.dir, rel)
		if !e.IsDir() {
			if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return out, err
			}
			continue
		}
		fd, err := onefs.OpenRoot(full)
		if err != nil {
			continue // its owner removed it just now
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
			unix.Close(fd)
			continue
		}
		out = append(out, &tmpDir{rel: rel, fd: fd})
	}
	return out, nil
}
