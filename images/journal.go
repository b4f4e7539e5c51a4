package images

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// journal is a change of the store. Its steps are safe to repeat, in their order, so a
// change that was cut off anywhere is finished by doing it again. They only move
// and remove names: whatever takes space on the disk was written before.
type journal struct {
	// Renames move directories and files to their places, Removes take files
	// away. All paths are relative to the store.
	Renames []rename `json:"renames,omitempty"`
	Removes []string `json:"removes,omitempty"`
}

type rename struct{ From, To string }

func (s *Store) journalPath() string { return filepath.Join(s.dir, "journal") }

// journalled says whether a change is unfinished.
func (s *Store) journalled() (bool, error) {
	_, err := os.Lstat(s.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// commit makes a change: at once, or not at all. The caller holds the lock
// exclusively. When it fails and journalled still says yes, the change is decided and
// is finished by whoever locks the store next.
func (s *Store) commit(j journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := s.writeFile("journal", b); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	s.step(StepJournalled)
	return s.replay()
}

// replay finishes the change in the journal, if there is one. The caller holds
// the lock exclusively.
func (s *Store) replay() error {
	b, err := os.ReadFile(s.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("the journal %q is damaged: %w", s.journalPath(), err)
	}
	if err := j.check(); err != nil {
		return fmt.Errorf("the journal %q is damaged: %w", s.journalPath(), err)
	}
	if err := s.apply(j); err != nil {
		return fmt.Errorf("finishing a change of the image store: %w", err)
	}
	if err := os.Remove(s.journalPath()); err != nil {
		return fmt.Errorf("removing the journal: %w", err)
	}
	return syncDir(s.dir)
}

// check keeps a damaged journal from reaching outside of the store.
func (j journal) check() error {
	paths := slices.Clone(j.Removes)
	for _, r := range j.Renames {
		paths = append(paths, r.From, r.To)
	}
	for _, p := range paths {
		if p == "." || !filepath.IsLocal(p) || filepath.Clean(p) != p {
			return fmt.Errorf("path %q", p)
		}
	}
	return nil
}

func (s *Store) apply(j journal) error {
	var dirs []string
	for _, r := range j.Renames {
		from, to := filepath.Join(s.dir, r.From), filepath.Join(s.dir, r.To)
		// What isn't there any more was moved before the change was cut off.
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		dirs = append(dirs, filepath.Dir(r.From), filepath.Dir(r.To))
		s.step(StepRenamed)
	}
	for _, p := range j.Removes {
		if err := os.Remove(filepath.Join(s.dir, p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		dirs = append(dirs, filepath.Dir(p))
		s.step(StepRemoved)
	}
	return s.syncDirs(dirs)
}

// stage writes a small file to tmp/, for a change that moves it to path. The
// caller holds the lock exclusively.
func (s *Store) stage(path, data string) (rename, error) {
	dir := filepath.Join(s.dir, filepath.Dir(path))
	if err := makeDir(dir); err != nil {
		return rename{}, err
	}
	rel := filepath.Join("tmp", "file-"+strings.ToLower(rand.Text()))
	if err := s.writeFile(rel, []byte(data)); err != nil {
		return rename{}, fmt.Errorf("writing %q: %w", path, err)
	}
	return rename{rel, path}, nil
}

func (s *Store) syncDirs(dirs []string) error {
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		if err := syncDir(filepath.Join(s.dir, d)); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces a small file of the store and brings it to the disk.
func (s *Store) writeFile(path string, data []byte) error {
	full := filepath.Join(s.dir, path)
	tmp := renameio.WithTempDir(filepath.Join(s.dir, "tmp"))
	if err := renameio.WriteFile(full, data, 0o644, tmp, renameio.IgnoreUmask()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(full))
}

// syncDir brings the names in a directory to the disk.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %q: %w", path, err)
	}
	return nil
}
