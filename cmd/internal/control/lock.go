package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError says that another daemon holds a directory.
type LockedError struct {
	// Path is the lock file.
	Path string
	// PID is the process that holds it; 0 when it cannot be told.
	PID int
}

// Error implements error.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another rubus holds %q", e.Path)
	}
	return fmt.Sprintf("rubus is running already: process %d holds %q", e.PID, e.Path)
}

// Lock makes this process the one daemon of each of the directories: it holds
// the file "lock" in them until release is called or the process ends, however
// it ends. It does not wait: a directory that is held is a *LockedError.
func Lock(dirs ...string) (release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			f.Close()
		}
	}
	for _, dir := range dirs {
		f, err := lock(filepath.Join(dir, "lock"))
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, f)
	}
	return release, nil
}

func lock(path string) (*os.File, error) {
	// Never removed: who removes a lock file races with the next who locks it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		b, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &LockedError{Path: path, PID: pid}
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err == nil {
			return f, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("writing the process id to %q: %w", path, err)
}
