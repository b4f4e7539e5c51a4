package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A change of several files of the store is made at once: they are written into a directory
// beside them, which gets another name when all of it is on the disk, and then are moved to
// their places. Who finds that name finishes a change that was cut off.
const (
	beingWritten = ".new"
	decided      = "changed"
)

// begin makes a store that is not there yet: beside its place, where it gets when all of
// it is on the disk. A board that boots for the first time waits for that. The error is
// fs.ErrExist when there is one.
func (s Store) begin(files map[string][]byte) error {
	if _, err := os.Lstat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fs.ErrExist)
	}
	board := filepath.Dir(s.Dir)
	if err := os.MkdirAll(board, 0o700); err != nil {
		return err
	}
	unlock, err := lock(board)
	if err != nil {
		return err
	}
	defer unlock()
	fresh := filepath.Join(board, "."+filepath.Base(s.Dir)+beingWritten)
	if err := os.RemoveAll(fresh); err != nil { // of one who was killed
		return err
	}
	if err := writeFiles(fresh, files); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, s.Dir, unix.RENAME_NOREPLACE); err != nil {
		return errors.Join(&os.LinkError{Op: "rename", Old: fresh, New: s.Dir, Err: err}, os.RemoveAll(fresh))
	}
	return syncDir(board)
}

// change puts files of the store on the disk, all or none, and before it returns. One alone
// needs no other directory: boards that boot wait for it.
func (s Store) change(files map[string][]byte) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(s.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.move(); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	fresh, to := filepath.Join(s.Dir, beingWritten), filepath.Join(s.Dir, decided)
	if len(files) == 1 {
		for name, data := range files {
			to = filepath.Join(s.Dir, name)
			err = writeFile(fresh, data)
		}
	} else {
		err = writeFiles(fresh, files)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, to); err != nil {
		return err
	}
	for _, d := range []string{s.Dir, filepath.Dir(s.Dir)} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return s.move()
}

// finish finishes a change that was cut off.
func (s Store) finish() error {
	_, err := os.Lstat(filepath.Join(s.Dir, decided))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var unlock func()
		if unlock, err = lock(s.Dir); err == nil {
			defer unlock()
			err = s.move()
		}
	}
	if err != nil {
		return fmt.Errorf("reading the identity: %w", err)
	}
	return nil
}

// move moves the files of a change that was decided to their places. The caller holds the lock.
func (s Store) move() error {
	dir := filepath.Join(s.Dir, decided)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(dir, f.Name()), filepath.Join(s.Dir, f.Name())); err != nil {
			return err
		}
	}
	// A file may be in neither place after a power cut otherwise.
	if err := syncDir(s.Dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	return syncDir(s.Dir)
}

// sweep removes what a killed process was writing: private keys, too. The caller holds the lock.
func (s Store) sweep() error {
	all, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if strings.HasPrefix(e.Name(), ".") {
			if err := os.RemoveAll(filepath.Join(s.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// lock waits until no other process changes what is in a directory, which takes no long
// time.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			d.Close()
			return nil, fmt.Errorf("locking %q: %w", dir, err)
		}
	}
}

// writeFiles makes a directory with files, and brings all of it to the disk.
func writeFiles(dir string, files map[string][]byte) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// writeFile makes a file for root alone, and brings it to the disk.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
