package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/source"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// readFlags open a file of the source without waiting for anything and without
// changing its access time.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME

type inodeID struct{ dev, ino uint64 }

// dirCopy copies a directory tree that stays on one mount.
type dirCopy struct {
	b     *builder
	root  int
	known map[inodeID]*node // files with several names
	// sealed says that it is an upper, whose marks of overlayfs are its own.
	sealed bool
}

// copyDir copies the directory of src; sealed says that it is an upper, count that somebody wants to know the total.
func copyDir(b *builder, src *source.Source, sealed, count bool) error {
	c := &dirCopy{b: b, root: src.Dir, known: make(map[inodeID]*node), sealed: sealed}
	if count {
		// Ends with the import's context, which finish waits for.
		b.group.Go(func() error {
			n, err := countBytes(b.ctx, src.Dir)
			if err != nil {
				return nil // the import ended
			}
			b.meter.total.Store(n)
			if b.space.Shares(src.Dir) {
				return nil
			}
			return b.space.Expect(n)
		})
	}
	top, err := onefs.OpenDir(c.root, "")
	if err != nil {
		return fmt.Errorf("reading %q: %w", src.Name, err)
	}
	defer unix.Close(top)
	if b.root.inode, err = c.dirEntry(top, "."); err != nil {
		return fmt.Errorf("reading %q: %w", src.Name, err)
	}
	todo := []*node{b.root}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		sub, err := c.dir(dir)
		if err != nil {
			return err
		}
		todo = append(todo, sub...)
	}
	return nil
}

func reading(p string, err error) error { return fmt.Errorf("reading %q: %w", p, err) }

// dir copies what a directory holds and returns the directories in it.
func (c *dirCopy) dir(dir *node) (sub []*node, err error) {
	p := dir.path()
	fd, err := onefs.OpenDir(c.root, p)
	if err != nil {
		return nil, reading(p, err)
	}
	defer unix.Close(fd)
	names, err := onefs.List(fd)
	if err != nil {
		return nil, reading(p, err)
	}
	for _, d := range names {
		if err := c.b.ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(p, d.Name)
		if len(full) > onefs.MaxPath {
			return nil, fmt.Errorf("reading %q: the path is longer than %d bytes", bounds.Short(full), onefs.MaxPath)
		}
		n, err := c.name(fd, dir, d, full)
		switch {
		case errors.Is(err, unix.ENOENT):
			c.b.notes.add("files vanished while the source was read: stop what runs there", full)
		case err != nil:
			return nil, err
		case n != nil:
			sub = append(sub, n)
		}
	}
	return sub, nil
}

// name copies one name; a directory is returned.
func (c *dirCopy) name(dirfd int, dir *node, d onefs.Dirent, full string) (*node, error) {
	switch d.Type {
	case unix.DT_DIR:
		return c.subdir(dirfd, dir, d.Name, full)
	case unix.DT_REG:
		return nil, c.file(dirfd, dir, d.Name, full)
	}
	fd, err := onefs.OpenAt(dirfd, d.Name, unix.O_PATH, 0)
	if err == unix.EXDEV {
		c.b.notes.add("files that something is mounted over were left out", full)
		return nil, nil
	}
	if err != nil {
		return nil, reading(full, err)
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, reading(full, err)
	}
	e := treesum.FromStat(&st)
	switch e.Type {
	case treesum.Dir:
		return c.subdir(dirfd, dir, d.Name, full)
	case treesum.File:
		return nil, c.file(dirfd, dir, d.Name, full)
	case treesum.Symlink:
		if e.Target, err = onefs.Readlink(fd); err != nil {
			return nil, reading(full, err)
		}
	}
	if st.Nlink > 1 {
		if done, err := c.linked(&st, dir, d.Name); done || err != nil {
			return nil, err
		}
	}
	if e.Xattrs, err = onefs.XattrsAt(dirfd, d.Name, c.keep(full)); err != nil {
		return nil, reading(full, err)
	}
	if err := c.b.special(dir, d.Name, e); err != nil {
		return nil, err
	}
	c.remember(&st, dir.children[d.Name])
	return nil, nil
}

func (c *dirCopy) keep(p string) func(string) bool {
	return func(name string) bool {
		if c.sealed && strings.HasPrefix(name, "trusted.overlay.") {
			return name == xattrOpaque
		}
		return keepXattr(c.b.notes, p, name)
	}
}

// linked makes a hard link when another name of the inode was copied before.
func (c *dirCopy) linked(st *unix.Stat_t, dir *node, name string) (bool, error) {
	first := c.known[inodeID{st.Dev, st.Ino}]
	if first == nil {
		return false, nil
	}
	return true, c.b.link(dir, name, first)
}

func (c *dirCopy) remember(st *unix.Stat_t, n *node) {
	if st.Nlink > 1 && n != nil {
		c.known[inodeID{st.Dev, st.Ino}] = n
	}
}

func (c *dirCopy) dirEntry(fd int, p string) (*treesum.Entry, error) {
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, err
	}
	e := treesum.FromStat(&st)
	e.Xattrs, err = onefs.Xattrs(fd, c.keep(p))
	return e, err
}

func (c *dirCopy) subdir(dirfd int, dir *node, name, full string) (*node, error) {
	fd, err := onefs.OpenDir(dirfd, name)
	if err == unix.EXDEV {
		return nil, c.mountPoint(dirfd, dir, name, full)
	}
	if err != nil {
		return nil, reading(full, err)
	}
	defer unix.Close(fd)
	e, err := c.dirEntry(fd, full)
	if err != nil {
		return nil, reading(full, err)
	}
	return c.b.mkdir(dir, name, e)
}

// mountPoint makes an empty directory for one that another file system is
// mounted on, as the board will want it there. What is mounted says its mode
// and owner; its time may be another one each second, so that of the directory above counts.
func (c *dirCopy) mountPoint(dirfd int, dir *node, name, full string) error {
	c.b.notes.add("other file systems mounted below the source were left out", full)
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return reading(full, err)
	}
	e := treesum.FromStat(&st)
	e.Sec, e.Nsec = dir.inode.Sec, dir.inode.Nsec
	_, err := c.b.mkdir(dir, name, e)
	return err
}

func (c *dirCopy) file(dirfd int, dir *node, name, full string) error {
	in, err := onefs.OpenAt(dirfd, name, readFlags, 0)
	if err == unix.EXDEV {
		c.b.notes.add("files that something is mounted over were left out", full)
		return nil
	}
	if err != nil {
		return reading(full, err)
	}
	st, err := onefs.Fstat(in)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it was replaced while the source was read")
	}
	done := false
	if err == nil && st.Nlink > 1 {
		done, err = c.linked(&st, dir, name)
	}
	if done || err != nil {
		unix.Close(in)
		return err
	}
	f, err := c.b.create(dir, name, treesum.FromStat(&st))
	if err != nil {
		unix.Close(in)
		return err
	}
	c.remember(&st, f.node)
	err = c.b.do(func() error {
		defer unix.Close(in)
		if err := c.content(in, f, &st, full); err != nil {
			return reading(full, err)
		}
		return f.done()
	})
	if err != nil {
		unix.Close(in)
	}
	return err
}

// content copies the data of one file, holes left out.
func (c *dirCopy) content(in int, f *file, st *unix.Stat_t, full string) (err error) {
	e := f.node.inode
	if e.Xattrs, err = onefs.Xattrs(in, c.keep(full)); err != nil {
		return err
	}
	if e.Size >= cloneFrom && !c.b.noClone.Load() {
		if err := unix.IoctlFileClone(f.fd, in); err == nil {
			f.cloned = true
		} else {
			c.b.noClone.Store(true)
		}
	}
	buf := c.b.buffer()
	defer c.b.free(buf)
	for off := int64(0); off < e.Size; {
		if err := c.b.ctx.Err(); err != nil {
			return err
		}
		if e.Size > treesum.BlockSize {
			// A block with any data in it is read whole.
			data, err := unix.Seek(in, off, unix.SEEK_DATA)
			if err == unix.ENXIO {
				break
			}
			if err == nil {
				off = max(off, data-data%treesum.BlockSize)
			}
		}
		n := min(e.Size-off, treesum.BlockSize)
		if err := treesum.ReadAt(in, buf[:n], off); errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it became shorter while it was read: stop what writes there, or import a snapshot")
		} else if err != nil {
			return err
		}
		c.b.meter.read.Add(n)
		f.expect()
		if err := f.put(off/treesum.BlockSize, buf[:n]); err != nil {
			return err
		}
		off += n
	}
	now, err := onefs.Fstat(in)
	if err == nil && (now.Mtim != st.Mtim || now.Size != st.Size) {
		c.b.notes.add("files changed while they were read: stop what writes there, or import a snapshot", full)
	}
	return err
}

// cloneFrom is the size in bytes from which sharing content with the source
// (reflink) is worth a try.
const cloneFrom = 64 << 10

// countBytes adds up the content on disk of all files below fd on its mount.
func countBytes(ctx context.Context, root int) (n int64, err error) {
	todo := []string{""}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		fd, err := onefs.OpenDir(root, p)
		if err != nil {
			continue // the copy itself says what is wrong
		}
		names, _ := onefs.List(fd)
		for _, d := range names {
			switch d.Type {
			case unix.DT_DIR:
				todo = append(todo, path.Join(p, d.Name))
			case unix.DT_REG, unix.DT_UNKNOWN:
				var st unix.Stat_t
				if unix.Fstatat(fd, d.Name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
					n += min(st.Size, st.Blocks*512) / max(1, int64(st.Nlink))
				}
			}
		}
		unix.Close(fd)
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
