package importer

import (
	"errors"
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"

	"rubus/images/ext4"
	"rubus/images/fat"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// diskCopy copies the root file system of a disk image, and into it the boot
// partition where the root mounts it.
type diskCopy struct {
	b     *builder
	fs    *ext4.FS
	mount string // where the boot partition goes, "" for nowhere
	seen  map[uint32]bool
	known map[uint32]*node // inodes with several names
}

// readDisk makes a tree of the image's root and boot partitions.
func readDisk(b *builder, image io.ReaderAt, size int64, partition int) error {
	volumes, err := openVolumes(image, size)
	if err != nil {
		return err
	}
	root, err := chooseRoot(volumes, partition)
	if err != nil {
		return err
	}
	boot, mount, err := chooseBootVolume(volumes, root.ext4)
	if err != nil {
		return fmt.Errorf("the boot partition: %w", err)
	}
	b.meter.total.Store(root.ext4.Used())
	if err := b.space.expect(root.ext4.Used()); err != nil {
		return err
	}
	c := &diskCopy{b: b, fs: root.ext4, mount: mount, seen: make(map[uint32]bool), known: make(map[uint32]*node)}
	if err := c.root(); err != nil {
		return fmt.Errorf("%v: %w", root, err)
	}
	if boot != nil {
		if err := c.boot(boot.fat); err != nil {
			return fmt.Errorf("%v: %w", boot, err)
		}
	}
	return nil
}

type diskDir struct {
	node  *node
	inode *ext4.Inode
}

func (c *diskCopy) root() error {
	top, err := c.fs.Inode(ext4.Root)
	if err != nil {
		return err
	}
	if c.b.root.inode, err = c.entry(top, "."); err != nil {
		return err
	}
	c.seen[ext4.Root] = true
	todo := []diskDir{{c.b.root, top}}
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
func (c *diskCopy) dir(dir diskDir) (sub []diskDir, err error) {
	p := dir.node.path()
	names, err := c.fs.ReadDir(dir.inode)
	if err != nil {
		return nil, reading(p, err)
	}
	if p == c.mount && p != "" {
		if len(names) > 0 {
			c.b.notes.add("what the boot partition is mounted over was left out", p+"/"+names[0].Name)
		}
		return nil, nil
	}
	for _, d := range names {
		if err := c.b.ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(p, d.Name)
		if len(full) > onefs.MaxPath {
			return nil, fmt.Errorf("reading %q: the path is longer than %d bytes", short(full), onefs.MaxPath)
		}
		i, err := c.fs.Inode(d.Inode)
		if err != nil {
			return nil, reading(full, err)
		}
		if i.Type() == unix.S_IFDIR {
			if c.seen[d.Inode] {
				return nil, fmt.Errorf("reading %q: %w: the directory has two names", full, ext4.ErrCorrupt)
			}
			c.seen[d.Inode] = true
			n, err := c.subdir(dir.node, d.Name, full, i)
			if err != nil {
				return nil, err
			}
			if n != nil {
				sub = append(sub, diskDir{n, i})
			}
			continue
		}
		if err := c.name(dir.node, d.Name, full, i); err != nil {
			return nil, err
		}
	}
	return sub, nil
}

func (c *diskCopy) subdir(dir *node, name, full string, i *ext4.Inode) (*node, error) {
	if full == "lost+found" {
		// mkfs makes it; an empty one says nothing.
		if names, err := c.fs.ReadDir(i); err != nil || len(names) == 0 {
			return nil, err
		}
	}
	e, err := c.entry(i, full)
	if err != nil {
		return nil, reading(full, err)
	}
	return c.b.mkdir(dir, name, e)
}

// name copies what is no directory.
func (c *diskCopy) name(dir *node, name, full string, i *ext4.Inode) error {
	if first := c.known[i.Number]; first != nil {
		return c.b.link(dir, name, first)
	}
	e, err := c.entry(i, full)
	if err != nil {
		return reading(full, err)
	}
	if e.Type != treesum.File {
		if e.Type == treesum.Symlink {
			if e.Target, err = c.fs.Readlink(i); err != nil {
				return reading(full, err)
			}
		}
		err = c.b.special(dir, name, e)
	} else {
		err = c.file(dir, name, full, i, e)
	}
	if err != nil {
		return err
	}
	if n := dir.children[name]; n != nil && i.Links > 1 {
		c.known[i.Number] = n
	}
	return nil
}

func (c *diskCopy) file(dir *node, name, full string, i *ext4.Inode, e *treesum.Entry) error {
	f, err := c.b.create(dir, name, e)
	if err != nil {
		return err
	}
	return c.b.do(func() error {
		content, err := c.fs.Content(i)
		if err == nil {
			err = c.b.copyFrom(f, content)
		}
		if err != nil {
			return reading(full, err)
		}
		return f.done()
	})
}

// entry describes an inode.
func (c *diskCopy) entry(i *ext4.Inode, p string) (*treesum.Entry, error) {
	e := &treesum.Entry{Mode: i.Mode & 0o7777, UID: i.UID, GID: i.GID, Sec: i.Sec, Nsec: i.Nsec}
	switch i.Type() {
	case unix.S_IFDIR:
		e.Type = treesum.Dir
	case unix.S_IFREG:
		e.Type, e.Size = treesum.File, i.Size
	case unix.S_IFLNK:
		e.Type, e.Mode = treesum.Symlink, 0o777
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = treesum.Char, i.Major, i.Minor
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = treesum.Block, i.Major, i.Minor
	case unix.S_IFIFO:
		e.Type = treesum.Fifo
	case unix.S_IFSOCK:
		e.Type = treesum.Socket
	default:
		return nil, fmt.Errorf("%w: inode %d has mode %o", ext4.ErrCorrupt, i.Number, i.Mode)
	}
	all, err := c.fs.Xattrs(i)
	if err != nil {
		return nil, err
	}
	for name, value := range all {
		if keepXattr(c.b.notes, p, name) {
			if e.Xattrs == nil {
				e.Xattrs = make(map[string]string)
			}
			e.Xattrs[name] = value
		}
	}
	return e, nil
}

// boot copies the boot partition to its mount point, with the owner and modes that
// it would be mounted with.
func (c *diskCopy) boot(fs *fat.FS) error {
	at := c.b.root.find(c.mount)
	if at == nil || !at.isDir() {
		dir, name, err := c.b.parent(c.mount, c.b.root.inode.Sec, c.b.root.inode.Nsec)
		if err != nil {
			return err
		}
		if at, err = c.b.mkdir(dir, name, defaultDir(c.b.root.inode.Sec, c.b.root.inode.Nsec)); err != nil {
			return err
		}
	}
	seen := make(map[uint32]bool)
	type fatDir struct {
		node  *node
		entry fat.Entry
	}
	todo := []fatDir{{at, fs.Root()}}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[d.entry.ID()] {
			return fmt.Errorf("%w: the directory %q has two names", fat.ErrCorrupt, d.node.path())
		}
		seen[d.entry.ID()] = true
		list, err := fs.ReadDir(d.entry)
		if err != nil {
			return reading(d.node.path(), err)
		}
		for _, e := range list {
			if err := c.b.ctx.Err(); err != nil {
				return err
			}
			t := &treesum.Entry{Type: treesum.File, Mode: 0o755, Size: e.Size, Sec: at.inode.Sec, Nsec: at.inode.Nsec}
			if !e.Time.IsZero() {
				t.Sec, t.Nsec = e.Time.Unix(), 0
			}
			if e.Dir {
				t.Type = treesum.Dir
				n, err := c.b.mkdir(d.node, e.Name, t)
				if err != nil {
					return err
				}
				todo = append(todo, fatDir{n, e})
				continue
			}
			if err := c.bootFile(fs, d.node, e, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *diskCopy) bootFile(fs *fat.FS, dir *node, e fat.Entry, t *treesum.Entry) error {
	content, err := fs.Open(e)
	if err != nil {
		return reading(path.Join(dir.path(), e.Name), err)
	}
	f, err := c.b.create(dir, e.Name, t)
	if err != nil {
		return err
	}
	return c.b.do(func() error {
		if err := c.b.copyFrom(f, content); err != nil {
			return reading(f.node.path(), err)
		}
		return f.done()
	})
}

// content is what a file of an image holds.
type content interface {
	io.ReaderAt
	Size() int64
	NextData(off int64) int64
}

// copyFrom writes all of c to f.
func (b *builder) copyFrom(f *file, c content) error {
	buf := b.buffer()
	defer b.free(buf)
	for off := c.NextData(0); off < c.Size(); off = c.NextData(off) {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		off -= off % treesum.BlockSize
		part := buf[:min(treesum.BlockSize, c.Size()-off)]
		if n, err := c.ReadAt(part, off); n < len(part) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		b.meter.read.Add(int64(len(part)))
		f.expect()
		if err := f.put(off/treesum.BlockSize, part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}
