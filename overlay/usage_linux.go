package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what an upper takes on disk.
type Usage struct {
	Bytes int64 // allocated, not apparent, up to the ends of files
	Files int64 // all entries, directories too; hard links count once
}

// IsEmpty says whether the board wrote nothing to an upper: its root has no
// entries, and the index has no copy of a golden file (leftover_linux.go).
// Overlayfs' own attributes and what else it has in its directories don't count.
func (u Uppers) IsEmpty(id UpperID) (bool, error) {
	d, err := os.Open(filepath.Join(u.Path(id), "upper"))
	if err != nil {
		return false, fmt.Errorf("looking into upper: %w", err)
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		names, err := indexEntries(filepath.Join(u.Path(id), "work"))
		if err != nil {
			return false, fmt.Errorf("looking into upper: %w", err)
		}
		return len(names) == 0, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking into upper: %w", err)
	}
	return false, nil
}

// Usage walks an upper and counts what a copy of it holds: of its work directory only the
// copies of golden files that have no name in the upper (leftover_linux.go). What changes
// meanwhile may or may not be counted. It can take minutes over millions of
// files; ctx ends it.
func (u Uppers) Usage(ctx context.Context, id UpperID) (Usage, error) {
	d, err := os.Open(filepath.Join(u.Path(id), "upper"))
	if err != nil {
		return Usage{}, fmt.Errorf("measuring upper: %w", err)
	}
	w := walker{seen: make(map[uint64]bool)}
	err = w.walk(ctx, d)
	if err == nil {
		err = w.indexed(ctx, filepath.Join(u.Path(id), "work"))
	}
	if err != nil {
		return Usage{}, fmt.Errorf("measuring upper %q of %s: %w", id, u.Serial, err)
	}
	return w.usage, nil
}

// indexed adds the copies of golden files that only the index has.
func (w *walker) indexed(ctx context.Context, work string) error {
	names, err := indexEntries(work)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := filepath.Join(work, "index", name)
		var st unix.Stat_t
		if unix.Lstat(p, &st) != nil {
			continue // gone meanwhile
		}
		if !isCopy(&st) {
			continue
		}
		attr, err := nlinkOf(p)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "getxattr", Path: p, Err: err}
		}
		if err == nil && attr != removedNlink {
			w.add(&st)
		}
	}
	return nil
}

// Changed is the time of the newest change in an upper, by the clock of its file system:
// of content, attributes or names, by whatever way it came. It walks the tree as Usage does.
func (u Uppers) Changed(ctx context.Context, id UpperID) (time.Time, error) {
	w := walker{seen: make(map[uint64]bool)}
	// What was written by a handle alone may show in the index and nowhere else.
	for _, dir := range []string{"upper", "work/index"} {
		d, err := os.Open(filepath.Join(u.Path(id), dir))
		if errors.Is(err, fs.ErrNotExist) && dir != "upper" {
			continue // it was never mounted
		}
		if err == nil {
			err = w.walk(ctx, d)
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("looking for changes in upper %q of %s: %w", id, u.Serial, err)
		}
	}
	return w.newest, nil
}

// Footprint counts an upper with its work directory, where overlayfs keeps what has
// no other place: all that takes space for a board. dir is the upper's directory. It
// is else as Usage; ErrMoved says that the board's changes were in its way.
func Footprint(ctx context.Context, dir string) (Usage, error) {
	w := walker{seen: make(map[uint64]bool)}
	for _, sub := range []string{"upper", "work"} {
		d, err := os.Open(filepath.Join(dir, sub))
		if sub == "work" && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			err = w.walk(ctx, d)
		}
		if err != nil {
			return Usage{}, fmt.Errorf("counting upper %q: %w", dir, err)
		}
	}
	return w.usage, nil
}

// ErrMoved says that a directory was moved while a tree was counted.
var ErrMoved = errors.New("a directory was moved while it was measured: try again")

// takes is what an object takes: what xfs keeps ready behind the end of a file is not
// counted.
func takes(st *unix.Stat_t) int64 {
	b := st.Blocks * 512
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		b = min(b, (st.Size+4095)&^4095)
	}
	return b
}

// walker goes through a tree with one open directory at a time, going up by
// "..": neither fds nor paths grow with a depth that a board chose.
type walker struct {
	usage  Usage
	newest time.Time
	seen   map[uint64]bool // inodes with several links
}

// add counts an object, once for all its names.
func (w *walker) add(st *unix.Stat_t) {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if w.seen[st.Ino] {
			return
		}
		w.seen[st.Ino] = true
	}
	w.usage.Files++
	w.usage.Bytes += takes(st)
}

func (w *walker) see(st *unix.Stat_t) {
	if t := time.Unix(st.Ctim.Unix()); t.After(w.newest) {
		w.newest = t
	}
}

// level is a directory above the open one: what is left to enter, and what
// the directory is known by.
type level struct {
	pending  []string
	dev, ino uint64
}

func (w *walker) walk(ctx context.Context, dir *os.File) error {
	defer func() { dir.Close() }()
	var above []level
	here, err := w.count(dir)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(here.pending) == 0 {
			if len(above) == 0 {
				return nil
			}
			here, above = above[len(above)-1], above[:len(above)-1]
			up, err := openUp(dir, here)
			if err != nil {
				return err
			}
			dir.Close()
			dir = up
			continue
		}
		name := here.pending[len(here.pending)-1]
		here.pending = here.pending[:len(here.pending)-1]
		sub, err := openBelow(dir, name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EXDEV) {
			continue
		}
		if err != nil {
			return err
		}
		dir.Close()
		dir = sub
		above = append(above, here)
		if here, err = w.count(dir); err != nil {
			return err
		}
	}
}

// openUp opens the parent of dir, when that is still the one it was.
func openUp(dir *os.File, want level) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != want.dev || st.Ino != want.ino {
		unix.Close(fd)
		return nil, ErrMoved
	}
	return os.NewFile(uintptr(fd), ".."), nil
}

// count adds the entries of dir and says which of them to enter.
func (w *walker) count(dir *os.File) (level, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return level{}, err
	}
	w.see(&st)
	here := level{dev: st.Dev, ino: st.Ino}
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue // gone meanwhile
			}
			w.see(&st)
			w.add(&st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				here.pending = append(here.pending, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return here, nil
		}
		if err != nil {
			return level{}, err
		}
	}
}

// copyAttributes gives directory to the owner, mode and extended attributes of
// directory from, without those of overlayfs itself.
func copyAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return fmt.Errorf("looking at layer %q: %w", from, err)
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return fmt.Errorf("changing mode of %q: %w", to, err)
	}
	names, err := listXattrs(from)
	if err != nil {
		return fmt.Errorf("attributes of layer %q: %w", from, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		n, err := unix.Lgetxattr(from, name, nil)
		if err != nil {
			return fmt.Errorf("attribute %q of layer %q: %w", name, from, err)
		}
		buf := make([]byte, n)
		if n, err = unix.Lgetxattr(from, name, buf); err != nil {
			return fmt.Errorf("attribute %q of layer %q: %w", name, from, err)
		}
		if err := unix.Lsetxattr(to, name, buf[:n], 0); err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
	}
	return nil
}

// listXattrs asks how much there is at first: room for the most, 64 KiB, would lie on the
// stack of each goroutine that prepares a board, and there are hundreds of them at a time.
func listXattrs(path string) ([]string, error) {
	n, err := unix.Llistxattr(path, nil)
	if n == 0 || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, n)
	if n, err = unix.Llistxattr(path, buf); err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }), nil
}
