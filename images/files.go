package images

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files is a version's files as a board would see them: the layers merged, with
// what an upper one hides left out. It is for a look at a few files; it needs no
// mount. Links are followed within their layer, and never out of it. Only
// regular files and directories can be opened.
func (s *Store) Files(v Version) fs.FS {
	return Merged(s.LayerDirs(v))
}

// LayerDirs are the directories of a version's layers, the uppermost first, as
// overlayfs wants them.
func (s *Store) LayerDirs(v Version) []string {
	var dirs []string
	for _, l := range slices.Backward(v.Layers) {
		dirs = append(dirs, s.LayerDir(l.Digest))
	}
	return dirs
}

// Merged is Files for directories, the uppermost first, which may be layers that are
// still being made.
func Merged(dirs []string) fs.FS { return merged(dirs) }

// merged are the trees of layers, the uppermost first. It implements
// fs.ReadDirFS.
type merged []string

// Open implements fs.FS.
func (m merged) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	for _, dir := range m {
		f, more, err := openIn(dir, name)
		if err == nil || !more {
			return f, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// openIn opens a file of one layer. More says that layers below may have it.
func openIn(dir, name string) (f *os.File, more bool, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, false, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		hidden, herr := hides(root, path.Dir(name))
		return nil, !hidden && herr == nil, errors.Join(err, herr)
	}
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		if whiteout(info) {
			err = fs.ErrNotExist
		} else {
			err = errors.New("neither a file nor a directory")
		}
		return nil, false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f, err = root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	return f, false, err
}

// hides says whether a layer hides what layers below have in a directory: the
// directory or one above it was removed, or made anew.
func hides(root *os.Root, dir string) (bool, error) {
	for ; dir != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false, err
		case !info.IsDir():
			return true, nil
		default:
			if opaque, err := isOpaque(root, dir); opaque || err != nil {
				return opaque, err
			}
		}
	}
	return false, nil
}

// isOpaque says whether a directory is marked to hide those below it.
func isOpaque(root *os.Root, dir string) (bool, error) {
	d, err := root.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	var b [1]byte
	n, err := unix.Fgetxattr(int(d.Fd()), "trusted.overlay.opaque", b[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return err == nil && n == 1 && b[0] == 'y', err
}

// whiteout says whether a file stands for one that was removed: a 0/0 character
// device.
func whiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// ReadDir implements fs.ReadDirFS.
func (m merged) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	seen := make(map[string]bool)
	var out []fs.DirEntry
	found := false
	for _, dir := range m {
		f, more, err := openIn(dir, name)
		if err != nil {
			if more {
				continue
			}
			if found {
				break
			}
			return nil, err
		}
		found = true
		list, err := f.ReadDir(-1)
		f.Close()
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			if info, err := e.Info(); err == nil && whiteout(info) {
				continue
			}
			out = append(out, e)
		}
		if hidden, err := below(dir, name); hidden || err != nil {
			if err != nil {
				return nil, err
			}
			break
		}
	}
	if !found {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// below says whether a layer hides what layers below have in a directory that
// it has itself.
func below(dir, name string) (bool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	return hides(root, name)
}
