package edit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"rubus/config"
	"rubus/config/leftover"
)

// lockWait is how long File waits for another command that edits.
const lockWait = 5 * time.Second

// ErrChanged says that somebody else wrote the file while it was edited.
var ErrChanged = errors.New("the file was changed by somebody else in the meantime; nothing was written")

// Change is a change of the text of devices.yaml: pure, from bytes to bytes. What
// it does not speak of stays as it is, byte by byte. See AddDevice,
// RemoveDevice, SetDevice and EnableDevice.
type Change func(name string, data []byte) ([]byte, error)

// File changes devices.yaml at path, which may be a symbolic link. It
// refuses when the file is invalid before or after, or when somebody else wrote
// it meanwhile (ErrChanged), and replaces it as a whole, with mode and owner
// kept. A missing file is made. It waits up to 5 seconds for another File call.
//
// written is false when the edit changed nothing.
func File(ctx context.Context, path string, change Change) (written bool, err error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = path, nil
	}
	if err != nil {
		return false, fmt.Errorf("editing %q: %w", path, err)
	}
	unlock, err := lockFile(ctx, filepath.Join(filepath.Dir(real), "."+filepath.Base(real)+".lock"))
	if err != nil {
		return false, fmt.Errorf("editing %q: %w", path, err)
	}
	defer unlock()
	if err := leftover.Remove(real); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("editing %q: %w", path, err)
	}

	before, err := config.LoadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if _, err := config.Parse(config.File{}, before); err != nil {
		return false, fmt.Errorf("the file is invalid as it is, so nothing was changed:\n%w", err)
	}
	after, err := change(path, before.Data)
	if err != nil {
		return false, err
	}
	if before.Data != nil && bytes.Equal(before.Data, after) {
		return false, nil
	}
	if _, err := config.Parse(config.File{}, config.File{Name: path, Data: after}); err != nil {
		return false, fmt.Errorf("the file would be invalid, so nothing was changed:\n%w", err)
	}
	return true, replaceFile(real, before.Data, after)
}

// lockFile holds an exclusive lock on a file beside the one that is edited. The
// file itself cannot be locked, as it is replaced; the lock file stays, as
// removing it would race with the next one who locks.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another command is editing it (it holds %q)", path)
		}
	}
}

// replaceFile puts after in the place of before, if before is still there.
func replaceFile(path string, before, after []byte) error {
	mode, uid, gid := fs.FileMode(0o644), -1, -1
	fi, err := os.Stat(path)
	switch {
	case err == nil:
		mode = fi.Mode().Perm()
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("writing the file: %w", err)
	}
	p, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("writing the file: %w", err)
	}
	defer func() { _ = p.Cleanup() }()
	if uid >= 0 {
		if err := p.Chown(uid, gid); err != nil {
			return fmt.Errorf("keeping the owner of the file: %w", err)
		}
	}
	if _, err := p.Write(after); err != nil {
		return fmt.Errorf("writing the file: %w", err)
	}
	// As late as can be: an editor takes no lock.
	now, err := config.LoadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now.Data, before) || (now.Data == nil) != (before == nil) {
		return ErrChanged
	}
	if err := p.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("replacing the file: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing the file: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("writing the file: %w", err)
	}
	return nil
}
