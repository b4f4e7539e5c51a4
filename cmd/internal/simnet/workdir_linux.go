package simnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// workPrefix begins the names of work directories.
const workPrefix = "simulate-"

// WorkDir is a directory for one simulation that is removed when it is over, or
// by the next simulation if this process is killed.
type WorkDir struct {
	Path string
	lock *os.File
}

// MakeWorkDir makes a work directory in parent and removes those of processes
// that are gone.
func MakeWorkDir(parent string) (*WorkDir, error) {
	old, err := filepath.Glob(filepath.Join(parent, workPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("looking for old work directories: %w", err)
	}
	for _, dir := range old {
		// One that is in use is locked; one that cannot be removed hurts nobody.
		if w, err := lockDir(dir); err == nil {
			_ = w.Remove()
		}
	}
	for {
		dir, err := os.MkdirTemp(parent, workPrefix)
		if err != nil {
			return nil, fmt.Errorf("making a work directory: %w", err)
		}
		// Before the lock another simulation may take it for an old one.
		w, err := lockDir(dir)
		if err == nil && w.removed() {
			w.lock.Close()
			continue
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		return w, err
	}
}

// removed says that another process removed the directory before it was locked.
func (w *WorkDir) removed() bool {
	var st unix.Stat_t
	return unix.Fstat(int(w.lock.Fd()), &st) == nil && st.Nlink == 0
}

func lockDir(dir string) (*WorkDir, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening a work directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking work directory %q: %w", dir, err)
	}
	return &WorkDir{Path: dir, lock: f}, nil
}

// Remove removes the directory with all that is in it, but nothing that is
// mounted in it.
func (w *WorkDir) Remove() error {
	defer w.lock.Close()
	if err := empty(int(w.lock.Fd())); err != nil {
		return fmt.Errorf("removing %q: %w", w.Path, err)
	}
	if err := os.Remove(w.Path); err != nil {
		return fmt.Errorf("removing a work directory: %w", err)
	}
	return nil
}

// empty removes all that is in an open directory. It enters subdirectories
// only on the same mount and never through a symlink; where something is
// mounted the removal fails (EBUSY, EXDEV) and the rest stays.
func empty(dir int) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Unlinkat(dir, name, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			err = emptyDir(dir, name)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func emptyDir(dir int, name string) error {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := empty(fd); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// list names what is in an open directory. The descriptor is left alone.
func list(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

// Handover is the directory as Enter's copy of this program is told of it.
func (w *WorkDir) Handover() string { return insideEnv + "=" + w.Path }

// WorkDirInside is the directory that Enter handed over; "" in a process that
// Enter did not start.
func WorkDirInside(getenv func(string) string) string {
	return strings.TrimSpace(getenv(insideEnv))
}
