package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What overlayfs has in its index (work/index) and misreads at the next mount.
//
// A golden file that is first written to through a file handle, while the
// kernel knows no path to it, is copied up into the index and nowhere else: that
// is how a board's writes come in after a reboot of the server. The copy has one
// link. At the next mount overlayfs takes such an entry for what is left of
// a removed file, puts a whiteout in its place, and all that was written is lost;
// the file itself is EIO for ever (ovl_verify_index, Linux 6.1 to 6.18). The same
// comes of a copy-up that a power cut interrupted. An entry with two links is
// left alone, so each gets another one, in keptDir.
//
// A removed file is told by the attribute that overlayfs sets before it takes
// the last name away.

// keptDir is beside the index, on its file system.
const keptDir = "kept"

// nlinkAttr is the overlay's link count of an indexed file, relative to that of
// the copy ("U") or of the golden file ("L"); removedNlink: none is left beside
// the index entry.
const (
	nlinkAttr    = "trusted.overlay.nlink"
	removedNlink = "U-1"
)

// keepIndexed protects the entries of the index. The upper is not mounted.
func keepIndexed(work string) error {
	if err := letGo(work); err != nil {
		return fmt.Errorf("letting go of copies of golden files: %w", err)
	}
	names, err := indexEntries(work)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := filepath.Join(work, "index", name)
		keep, err := isMisread(p)
		if err == nil && keep {
			err = linkKept(work, name)
		}
		if err != nil {
			return fmt.Errorf("keeping the copy of a golden file, %q: %w", p, err)
		}
	}
	return nil
}

// letGo removes the links that are of no use any more, so that a file which the
// board removes gives its space back: the index entry is gone (1 link), the file
// has got a name in the upper (3 or more), or lost its last one (2, and the
// attribute is from when there were 3).
func letGo(work string) error {
	dir := filepath.Join(work, keptDir)
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		p := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if e := unix.Lstat(p, &st); e != nil {
			return &os.PathError{Op: "lstat", Path: p, Err: e}
		}
		useless := st.Nlink != 2
		if !useless {
			attr, e := nlinkOf(p)
			if e != nil {
				return &os.PathError{Op: "getxattr", Path: p, Err: e}
			}
			useless = attr == removedNlink
		}
		if useless {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return err
}

// nlinkOf is the overlay's link count of an entry; "": it has none.
func nlinkOf(p string) (string, error) {
	buf := make([]byte, 32)
	n, err := unix.Lgetxattr(p, nlinkAttr, buf)
	if errors.Is(err, unix.ENODATA) {
		return "", nil // interrupted before it was set
	}
	return string(buf[:max(n, 0)]), err
}

// isCopy says whether an index entry is the copy of a golden file: others are directories'
// and whiteouts.
func isCopy(st *unix.Stat_t) bool {
	whiteout := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
	return st.Mode&unix.S_IFMT != unix.S_IFDIR && !whiteout
}

// isMisread says whether an index entry would be taken for a removed file's.
func isMisread(p string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return false, err
	}
	if !isCopy(&st) || st.Nlink != 1 {
		return false, nil
	}
	attr, err := nlinkOf(p)
	return attr != removedNlink, err
}

func linkKept(work, name string) error {
	dir := filepath.Join(work, keptDir)
	if err := unix.Mkdir(dir, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return unix.Link(filepath.Join(work, "index", name), filepath.Join(dir, name))
}

// dropTemporary removes what overlayfs was making when the power went: names
// that it counts up from 0 at each boot, and at which it fails to mount when it
// comes to one that is there (EIO). The upper is not mounted: the mount that has
// just failed with EIO would have failed with EBUSY.
func dropTemporary(work string) error {
	list, err := os.ReadDir(filepath.Join(work, "index"))
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), "#") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(work, "index", e.Name())))
		}
	}
	return err
}

// indexEntries lists the index but for what is temporary; before the first
// mount there is none.
func indexEntries(work string) (names []string, err error) {
	list, err := os.ReadDir(filepath.Join(work, "index"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), "#") {
			names = append(names, e.Name())
		}
	}
	return names, err
}
