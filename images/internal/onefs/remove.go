package onefs

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrMounted says that another file system is mounted where something was to be removed.
var ErrMounted = errors.New("a file system is mounted there")

// deepest is how many directories RemoveAll keeps open at once. What lies deeper is
// moved up first, so that neither descriptors nor the stack grow with the tree.
const deepest = 128

// RemoveAll removes name, in the directory dirfd, with all below. It works by
// descriptors on one mount: where another one is mounted below, that part and
// the directories above it stay, the rest is removed, and the error wraps
// ErrMounted. A name that is not there is no error.
func RemoveAll(dirfd int, name string) error { return RemoveTelling(dirfd, name, nil) }

// RemoveTelling is RemoveAll that calls told, when it is not nil, after each name that is gone.
func RemoveTelling(dirfd int, name string, told func()) error {
	fd, err := OpenDir(dirfd, name)
	switch {
	case err == unix.ENOENT:
		return nil
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return removeName(dirfd, name, name, 0)
	case err == unix.EXDEV:
		return fmt.Errorf("removing %q: %w: unmount it first", name, ErrMounted)
	case err != nil:
		return fmt.Errorf("removing %q: %w", name, err)
	}
	defer unix.Close(fd)
	r := remover{top: fd, told: told}
	for {
		before := r.moved
		if err := r.empty(fd, name, 0); err != nil {
			return err
		}
		// Directories that were moved up came after the list was made.
		if r.moved == before {
			return removeName(dirfd, name, name, unix.AT_REMOVEDIR)
		}
	}
}

type remover struct {
	top   int // directories that lie too deep are moved here
	moved int
	told  func() // may be nil
}

// empty removes what the directory fd holds, as much as it can, and returns the
// first error; path only names the directory in errors.
func (r *remover) empty(fd int, path string, depth int) error {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	names, first := List(fd)
	if first != nil {
		first = fmt.Errorf("listing %q: %w", path, first)
	}
	for _, e := range names {
		err := r.remove(fd, e, path+"/"+e.Name, depth)
		if err != nil && first == nil {
			first = err
		}
		if err == nil && r.told != nil {
			r.told()
		}
	}
	return first
}

func (r *remover) remove(fd int, e Dirent, path string, depth int) error {
	if e.Type != unix.DT_DIR && e.Type != unix.DT_UNKNOWN {
		return removeName(fd, e.Name, path, 0)
	}
	sub, err := OpenDir(fd, e.Name)
	switch {
	case err == unix.ENOTDIR || err == unix.ELOOP:
		return removeName(fd, e.Name, path, 0)
	case err == unix.EXDEV:
		return fmt.Errorf("removing %q: %w: unmount it first", path, ErrMounted)
	case err != nil:
		return fmt.Errorf("removing %q: %w", path, err)
	}
	defer unix.Close(sub)
	if depth >= deepest {
		to := ".rubus-removed-" + strconv.Itoa(r.moved)
		if unix.Renameat2(fd, e.Name, r.top, to, unix.RENAME_NOREPLACE) == nil {
			r.moved++
			return nil
		}
		// Where that fails it is removed in place.
	}
	if err := r.empty(sub, path, depth+1); err != nil {
		return err
	}
	return removeName(fd, e.Name, path, unix.AT_REMOVEDIR)
}

func removeName(dirfd int, name, path string, flags int) error {
	for {
		err := unix.Unlinkat(dirfd, name, flags)
		switch err {
		case nil, unix.ENOENT:
			return nil
		case unix.EINTR:
			continue
		case unix.EBUSY:
			return fmt.Errorf("removing %q: %w: unmount it first", path, ErrMounted)
		}
		return fmt.Errorf("removing %q: %w", path, err)
	}
}
