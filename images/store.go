package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Step names a point within a change at which a crash must do no harm.
type Step string

// The steps of an import or a removal, in the order in which they happen.
const (
	StepBegun      Step = "begun"      // a directory in tmp/ is ours
	StepSynced     Step = "synced"     // a new layer is on the disk
	StepLocked     Step = "locked"     // the store is locked for the change
	StepJournalled Step = "journalled" // the change is decided
	StepRenamed    Step = "renamed"    // one layer or file was moved
	StepRemoved    Step = "removed"    // one file was removed
	StepCommitted  Step = "committed"  // the change is made and the lock released
)

// Store is a directory of images. Its methods may be called from several
// goroutines, and several processes may have the same directory open.
type Store struct {
	dir string
	// Observe, when set before first use, is called at each step of a change.
	Observe func(Step)
	// Removed, when set before first use, is called after each name that GC has removed from the disk.
	Removed func()
	// Now is the clock; Open sets time.Now.
	Now func() time.Time
}

// The permissions of the store: layers hold other machines' password hashes and
// setuid programs, which are no business of this machine's users.
const dirMode = 0o700

// Open opens the store in dir, making it when it isn't there, finishes a change that
// was cut off, and removes what dead processes left half-made. It may block
// while another process changes the store.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the image store: %w", err)
	}
	s := &Store{dir: dir, Now: time.Now}
	for _, sub := range []string{"", "layers", "manifests", "tags", "tmp"} {
		if err := makeDir(filepath.Join(dir, sub)); err != nil {
			return nil, fmt.Errorf("opening the image store: %w", err)
		}
	}
	ctx := context.Background()
	release, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	empty, err := s.tmpEmpty()
	release()
	if err != nil || empty {
		return s, err
	}
	// What can't be removed now (a mount planted below) hurts nobody: GC reports it.
	_ = s.sweep(ctx)
	return s, nil
}

func makeDir(path string) error {
	err := os.Mkdir(path, dirMode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case err != nil:
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Dir is the directory of the store.
func (s *Store) Dir() string { return s.dir }

// LayerDir is the root directory of a layer, whether it is there or not. Nobody
// may write below it.
func (s *Store) LayerDir(digest string) string {
	return filepath.Join(s.dir, layerPath(digest), "tree")
}

// layerPath is relative to the store, as in a journal.
func layerPath(digest string) string { return filepath.Join("layers", digest) }

func (s *Store) step(st Step) {
	if s.Observe != nil {
		s.Observe(st)
	}
}
