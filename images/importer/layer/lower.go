package layer

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// Lower is the merged view of the layers below one that is being made, the
// uppermost first. It follows no links.
type Lower []int

// OpenLower opens the trees in dirs.
func OpenLower(dirs []string) (Lower, error) {
	var l Lower
	for _, dir := range dirs {
		fd, err := onefs.OpenRoot(dir)
		if err != nil {
			l.Close()
			return nil, err
		}
		l = append(l, fd)
	}
	return l, nil
}

// Close closes them.
func (l Lower) Close() {
	for _, fd := range l {
		unix.Close(fd)
	}
}

// Entry describes what is at path; nil: nothing is.
func (l Lower) Entry(p string) (*treesum.Entry, error) {
	for _, root := range l {
		e, err := EntryAt(root, p)
		switch {
		case err == nil && isWhiteout(e):
			return nil, nil
		case err == nil:
			return e, nil
		case !errors.Is(err, unix.ENOENT):
			if err == unix.ENOTDIR || err == unix.ELOOP {
				return nil, nil // something else than a directory is on the way
			}
			return nil, err
		}
		// This layer may hide what those below have.
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			e, err := EntryAt(root, dir)
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			if err != nil || e.Type != treesum.Dir || e.Xattrs[XattrOpaque] == "y" {
				return nil, nil
			}
		}
	}
	return nil, nil
}

// XattrOpaque marks a directory that hides what is below it in other layers.
const XattrOpaque = "trusted.overlay.opaque"

func isWhiteout(e *treesum.Entry) bool { return e.Type == treesum.Char && e.Major == 0 && e.Minor == 0 }

// EntryAt describes what is at a path below the directory root.
func EntryAt(root int, p string) (*treesum.Entry, error) {
	fd, err := onefs.OpenAt(root, p, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, err
	}
	e := treesum.FromStat(&st)
	switch e.Type {
	case treesum.Symlink:
		e.Target, err = onefs.Readlink(fd)
	case treesum.Dir:
		dir, derr := onefs.OpenDir(root, p)
		if derr != nil {
			return nil, derr
		}
		e.Xattrs, err = onefs.Xattrs(dir, treesum.Counted)
		unix.Close(dir)
	}
	return e, err
}

// Implied describes a directory that a layer has only because of what is in it: it
// is the one below, or a new one.
func (b *Builder) Implied(dir *Node, name string, sec, nsec int64) *treesum.Entry {
	e, err := b.Lower.Entry(path.Join(dir.Path(), name))
	if err != nil || e == nil || e.Type != treesum.Dir {
		return DefaultDir(sec, nsec)
	}
	for x := range e.Xattrs {
		if !KeepXattr(b.Notes, "", x) {
			delete(e.Xattrs, x)
		}
	}
	return e
}

// Resolve gives the path at which an entry goes that lies below symbolic links of the layers
// below: as it would on a root that they are unpacked to, one after the other. What this
// layer has itself counts first. maxLinks bounds how many links are followed.
func (b *Builder) Resolve(p string) (string, error) {
	const maxLinks = 40
	links := 0
	var done []string
	todo := strings.Split(path.Dir(p), "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, len(done)-1)]
			continue
		}
		at := path.Join(append(slices.Clone(done), part)...)
		if b.Root.Find(at) == nil {
			e, err := b.Lower.Entry(at)
			if err != nil {
				return "", err
			}
			if e != nil && e.Type == treesum.Symlink {
				if links++; links > maxLinks {
					return "", unix.ELOOP
				}
				if path.IsAbs(e.Target) {
					done = nil
				}
				todo = append(strings.Split(e.Target, "/"), todo...)
				continue
			}
		}
		done = append(done, part)
	}
	return path.Join(path.Join(done...), path.Base(p)), nil
}

// Whiteout hides what the layers below have at a clean path.
func (b *Builder) Whiteout(p string) error {
	dir, name, err := b.Parent(p, 0, 0)
	if err != nil {
		return err
	}
	return b.Special(dir, name, &treesum.Entry{Type: treesum.Char, Mode: 0, Sec: dir.Inode.Sec, Nsec: dir.Inode.Nsec})
}
