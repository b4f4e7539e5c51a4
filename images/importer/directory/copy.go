package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// readFlags open a file of the source without waiting for anything and without
// changing its access time.
const readFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME

type inodeID struct{ dev, ino uint64 }

// Options say what is copied; the zero value is good.
type Options struct {
	// Upper says that it is an upper of overlayfs, whose marks are its own.
	Upper bool
	// Count says that somebody wants to know how much there is in all.
	Count bool
}

// copying is the work on one directory tree.
type copying struct {
	b     *layer.Builder
	root  int
	known map[inodeID]*layer.Node // files with several names
	upper bool
}

// Copy makes a tree of the directory that root has open, without what is mounted below it. name is what
// errors call it.
func Copy(b *layer.Builder, root int, name string, o Options) error {
	c := &copying{b: b, root: root, known: make(map[inodeID]*layer.Node), upper: o.Upper}
	if o.Count {
		// Ends with the import's context, which Finish waits for.
		b.Go(func() error {
			n, err := countBytes(b.Ctx, root)
			if err != nil {
				return nil // the import ended
			}
			b.Meter.Total.Store(n)
			if b.Space.Shares(root) {
				return nil
			}
			return b.Space.Expect(n)
		})
	}
	top, err := onefs.OpenDir(c.root, "")
	if err != nil {
		return fmt.Errorf("reading %q: %w", name, err)
	}
	defer unix.Close(top)
	if b.Root.Inode, err = c.dirEntry(top, "."); err != nil {
		return fmt.Errorf("reading %q: %w", name, err)
	}
	todo := []*layer.Node{b.Root}
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

// dir copies what a directory holds and returns the directories in it.
func (c *copying) dir(dir *layer.Node) (sub []*layer.Node, err error) {
	p := dir.Path()
	fd, err := onefs.OpenDir(c.root, p)
	if err != nil {
		return nil, layer.Reading(p, err)
	}
	defer unix.Close(fd)
	names, err := onefs.List(fd)
	if err != nil {
		return nil, layer.Reading(p, err)
	}
	for _, d := range names {
		if err := c.b.Ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(p, d.Name)
		if len(full) > onefs.MaxPath {
			return nil, fmt.Errorf("reading %q: the path is longer than %d bytes", bounds.Short(full), onefs.MaxPath)
		}
		n, err := c.name(fd, dir, d, full)
		switch {
		case errors.Is(err, unix.ENOENT):
			c.b.Notes.Add("files vanished while the source was read: stop what runs there", full)
		case err != nil:
			return nil, err
		case n != nil:
			sub = append(sub, n)
		}
	}
	return sub, nil
}

// name copies one name; a directory is returned.
func (c *copying) name(dirfd int, dir *layer.Node, d onefs.Dirent, full string) (*layer.Node, error) {
	switch d.Type {
	case unix.DT_DIR:
		return c.subdir(dirfd, dir, d.Name, full)
	case unix.DT_REG:
		return nil, c.file(dirfd, dir, d.Name, full)
	}
	fd, err := onefs.OpenAt(dirfd, d.Name, unix.O_PATH, 0)
	if err == unix.EXDEV {
		c.b.Notes.Add("files that something is mounted over were left out", full)
		return nil, nil
	}
	if err != nil {
		return nil, layer.Reading(full, err)
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, layer.Reading(full, err)
	}
	e := treesum.FromStat(&st)
	switch e.Type {
	case treesum.Dir:
		return c.subdir(dirfd, dir, d.Name, full)
	case treesum.File:
		return nil, c.file(dirfd, dir, d.Name, full)
	case treesum.Symlink:
		if e.Target, err = onefs.Readlink(fd); err != nil {
			return nil, layer.Reading(full, err)
		}
	}
	if st.Nlink > 1 {
		if done, err := c.linked(&st, dir, d.Name); done || err != nil {
			return nil, err
		}
	}
	if e.Xattrs, err = onefs.XattrsAt(dirfd, d.Name, c.keep(full)); err != nil {
		return nil, layer.Reading(full, err)
	}
	if err := c.b.Special(dir, d.Name, e); err != nil {
		return nil, err
	}
	c.remember(&st, dir.Children[d.Name])
	return nil, nil
}

func (c *copying) keep(p string) func(string) bool {
	return func(name string) bool {
		if c.upper && strings.HasPrefix(name, "trusted.overlay.") {
			return name == layer.XattrOpaque
		}
		return layer.KeepXattr(c.b.Notes, p, name)
	}
}

// linked makes a hard link when another name of the inode was copied before.
func (c *copying) linked(st *unix.Stat_t, dir *layer.Node, name string) (bool, error) {
	first := c.known[inodeID{st.Dev, st.Ino}]
	if first == nil {
		return false, nil
	}
	return true, c.b.Link(dir, name, first)
}

func (c *copying) remember(st *unix.Stat_t, n *layer.Node) {
	if st.Nlink > 1 && n != nil {
		c.known[inodeID{st.Dev, st.Ino}] = n
	}
}

func (c *copying) dirEntry(fd int, p string) (*treesum.Entry, error) {
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, err
	}
	e := treesum.FromStat(&st)
	e.Xattrs, err = onefs.Xattrs(fd, c.keep(p))
	return e, err
}

func (c *copying) subdir(dirfd int, dir *layer.Node, name, full string) (*layer.Node, error) {
	fd, err := onefs.OpenDir(dirfd, name)
	if err == unix.EXDEV {
		return nil, c.mountPoint(dirfd, dir, name, full)
	}
	if err != nil {
		return nil, layer.Reading(full, err)
	}
	defer unix.Close(fd)
	e, err := c.dirEntry(fd, full)
	if err != nil {
		return nil, layer.Reading(full, err)
	}
	return c.b.Mkdir(dir, name, e)
}

// mountPoint makes an empty directory for one that another file system is
// mounted on, as the board will want it there. What is mounted says its mode
// and owner; its time may be another one each second, so that of the directory above counts.
func (c *copying) mountPoint(dirfd int, dir *layer.Node, name, full string) error {
	c.b.Notes.Add("other file systems mounted below the source were left out", full)
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return layer.Reading(full, err)
	}
	e := treesum.FromStat(&st)
	e.Sec, e.Nsec = dir.Inode.Sec, dir.Inode.Nsec
	_, err := c.b.Mkdir(dir, name, e)
	return err
}

func (c *copying) file(dirfd int, dir *layer.Node, name, full string) error {
	in, err := onefs.OpenAt(dirfd, name, readFlags, 0)
	if err == unix.EXDEV {
		c.b.Notes.Add("files that something is mounted over were left out", full)
		return nil
	}
	if err != nil {
		return layer.Reading(full, err)
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
	f, err := c.b.Create(dir, name, treesum.FromStat(&st))
	if err != nil {
		unix.Close(in)
		return err
	}
	c.remember(&st, f.Node)
	err = c.b.Do(func() error {
		defer unix.Close(in)
		if err := c.content(in, f, &st, full); err != nil {
			return layer.Reading(full, err)
		}
		return f.Done()
	})
	if err != nil {
		unix.Close(in)
	}
	return err
}

// content copies the data of one file, holes left out.
func (c *copying) content(in int, f *layer.File, st *unix.Stat_t, full string) (err error) {
	e := f.Node.Inode
	if e.Xattrs, err = onefs.Xattrs(in, c.keep(full)); err != nil {
		return err
	}
	if e.Size >= cloneFrom && !c.b.NoClone.Load() {
		if !f.Clone(in) {
			c.b.NoClone.Store(true)
		}
	}
	buf := c.b.Buffer()
	defer c.b.Free(buf)
	for off := int64(0); off < e.Size; {
		if err := c.b.Ctx.Err(); err != nil {
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
		c.b.Meter.Read.Add(n)
		f.Expect()
		if err := f.Put(off/treesum.BlockSize, buf[:n]); err != nil {
			return err
		}
		off += n
	}
	now, err := onefs.Fstat(in)
	if err == nil && (now.Mtim != st.Mtim || now.Size != st.Size) {
		c.b.Notes.Add("files changed while they were read: stop what writes there, or import a snapshot", full)
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
