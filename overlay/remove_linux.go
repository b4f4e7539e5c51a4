package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// removeDir deletes a directory below u.Dir with all its content, never
// leaving its mount. A missing one is no error.
//
// It doesn't recurse: each subdirectory found is first moved up to the top of
// the directory and emptied later, so no depth that a board can make takes
// more than a few fds, and no path becomes long. What a mount below holds
// stays: a mount point can be neither moved nor removed (EBUSY), nor entered
// (RESOLVE_NO_XDEV).
func (u Uppers) removeDir(ctx context.Context, name string) error {
	parent, err := os.Open(u.Dir)
	if err != nil {
		return fmt.Errorf("removing %q: %w", name, err)
	}
	defer parent.Close()
	top, err := openBelow(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %q: %w", filepath.Join(u.Dir, name), err)
	}
	defer top.Close()
	r := remover{top: top}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("removing %q: %w", filepath.Join(u.Dir, name), err)
	}
	if err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("removing %q: %w", filepath.Join(u.Dir, name), err)
	}
	return nil
}

// openBelow opens the directory name in dir without leaving dir's mount.
func openBelow(dir *os.File, name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// remover empties one directory.
type remover struct {
	top  *os.File
	next int // number of the next directory moved up
}

// movedPrefix begins the names of directories that were moved up. Those of an
// earlier, killed run are met again at the top like any other.
const movedPrefix = ".moved-"

func (r *remover) run(ctx context.Context) error {
	// Each pass empties the directories that are at the top, which may bring
	// up others; a pass that finds none leaves the top empty.
	for {
		dirs, err := r.empty(ctx, r.top, false)
		if err != nil {
			return err
		}
		if len(dirs) == 0 {
			return nil
		}
		for _, name := range dirs {
			if err := r.removeOne(ctx, name); err != nil {
				return err
			}
		}
	}
}

// removeOne removes a directory at the top after moving its own directories up.
func (r *remover) removeOne(ctx context.Context, name string) error {
	dir, err := openBelow(r.top, name)
	if err != nil {
		return refusal(name, err)
	}
	defer dir.Close()
	if _, err := r.empty(ctx, dir, true); err != nil {
		return err
	}
	return refusal(name, unix.Unlinkat(int(r.top.Fd()), name, unix.AT_REMOVEDIR))
}

// empty removes all files of dir. Its directories are moved to the top, or,
// when dir is the top, returned.
func (r *remover) empty(ctx context.Context, dir *os.File, moveUp bool) (dirs []string, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// Entries go while we read: start again until nothing new shows up.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		names, err := dir.Readdirnames(1000)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		removed := 0
		dirs = dirs[:0]
		for _, name := range names {
			err := unix.Unlinkat(int(dir.Fd()), name, 0)
			if errors.Is(err, unix.EISDIR) {
				if !moveUp {
					dirs = append(dirs, name)
					continue
				}
				err = r.moveUp(dir, name)
			}
			if err := refusal(name, err); err != nil {
				return nil, err
			}
			removed++
		}
		if removed == 0 {
			return dirs, nil
		}
	}
}

func (r *remover) moveUp(dir *os.File, name string) error {
	for {
		r.next++
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), movedPrefix+strconv.Itoa(r.next), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// refusal explains why an entry could not be removed; nil when it is gone.
func refusal(name string, err error) error {
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("%q is a mount point and was left alone: unmount it first: %w", name, err)
	}
	return fmt.Errorf("%q: %w", name, err)
}

// unused says why an upper can't be removed now: a mount has it as its upper,
// or lies below it.
func (u Uppers) unused(id UpperID) error {
	mounts, err := mountTable()
	if err != nil {
		return err
	}
	// Mount points are shown without symlinks.
	path, err := filepath.EvalSymlinks(u.Path(id))
	if err != nil {
		path = u.Path(id)
	}
	for _, m := range mounts {
		root, ours := parseSource(m.Source)
		switch {
		case m.FSType == "overlay" && ours && root.Serial == u.Serial && root.UpperID == id:
			return fmt.Errorf("it is mounted on %q: %w", m.Mountpoint, unix.EBUSY)
		case m.FSType == "overlay" && below(upperOption(m), path):
			return fmt.Errorf("the overlay on %q uses it: %w", m.Mountpoint, unix.EBUSY)
		case below(m.Mountpoint, path):
			return fmt.Errorf("%q is mounted below it: %w", m.Mountpoint, unix.EBUSY)
		}
	}
	return nil
}

// below says whether path is dir or lies in it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
