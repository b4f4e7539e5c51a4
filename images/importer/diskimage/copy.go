package diskimage

import (
	"errors"
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/ext4"
	"rubus/images/fat"
	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// diskCopy copies the root file system of a disk image, and into it the boot
// partition where the root mounts it.
type diskCopy struct {
	b     *layer.Builder
	image Image
	fs    *ext4.FS
	queue queue
	count int64 // of names so far
	// boot is the boot partition and mount where it goes, "" for nowhere, when chosen is set.
	boot    *volume
	mount   string
	chosen  bool
	volumes []volume
	seen    map[uint32]bool
	known   map[uint32]*layer.Node // inodes with several names
}

// Image is one that is there, or one that comes.
type Image struct {
	io.ReaderAt
	// Size is its length in bytes, or what it has at most while it comes.
	Size int64
	// All waits until all of it is there and says how much that is; nil: it is.
	All func() (int64, error)
}

// choose finds out what in an image is the root, of the partition asked for, if any.
func (d Image) choose(size int64, partition int) (*volume, []volume, error) {
	volumes, err := openVolumes(d, size)
	if err != nil {
		return nil, nil, err
	}
	root, err := chooseRoot(volumes, partition)
	return root, volumes, err
}

// Copy makes a tree of the image's root and boot partitions.
func Copy(b *layer.Builder, image Image, partition int) error {
	root, volumes, err := image.choose(image.Size, partition)
	if err != nil {
		return err
	}
	c := &diskCopy{b: b, image: image, fs: root.ext4, volumes: volumes, seen: make(map[uint32]bool), known: make(map[uint32]*layer.Node)}
	if image.All == nil {
		// What is wrong with it is said at once.
		if err := c.chooseBoot(); err != nil {
			return err
		}
	}
	b.Meter.Total.Store(root.ext4.Used())
	if err := b.Space.Expect(root.ext4.Used()); err != nil {
		return err
	}
	if err := c.root(); err != nil {
		return fmt.Errorf("%v: %w", root, err)
	}
	if err := c.chooseBoot(); err != nil {
		return err
	}
	if c.boot != nil {
		if err := c.bootFiles(c.boot.fat); err != nil {
			return fmt.Errorf("%v: %w", c.boot, err)
		}
	}
	if image.All == nil {
		return nil
	}
	return c.recheck(root, partition)
}

// recheck looks at an image that came again when its size is known: what was cut off is found only then.
func (c *diskCopy) recheck(root *volume, partition int) error {
	size, err := c.image.All()
	if err != nil {
		return err
	}
	again, volumes, err := c.image.choose(size, partition)
	if err != nil {
		return err
	}
	boot, mount, err := chooseBootVolume(volumes, again.ext4)
	if err != nil {
		return fmt.Errorf("the boot partition: %w", err)
	}
	if again.Number != root.Number || mount != c.mount || (boot == nil) != (c.boot == nil) || boot != nil && boot.Number != c.boot.Number {
		return errors.New("the disk image is cut off")
	}
	return nil
}

// chooseBoot finds out what the boot partition is and where it goes.
func (c *diskCopy) chooseBoot() (err error) {
	if c.chosen {
		return nil
	}
	c.chosen = true
	if c.boot, c.mount, err = chooseBootVolume(c.volumes, c.fs); err != nil {
		return fmt.Errorf("the boot partition: %w", err)
	}
	return nil
}

func (c *diskCopy) root() error {
	top, err := c.fs.Inode(ext4.Root)
	if err != nil {
		return err
	}
	if c.b.Root.Inode, err = c.entry(top, "."); err != nil {
		return err
	}
	c.seen[ext4.Root] = true
	if err := c.list(c.b.Root, "", top); err != nil {
		return err
	}
	for len(c.queue.names) > 0 {
		if err := c.b.Ctx.Err(); err != nil {
			return err
		}
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// list notes the names in a directory, to be copied when it is their turn.
func (c *diskCopy) list(dir *layer.Node, p string, inode *ext4.Inode) error {
	names, err := c.fs.ReadDir(inode)
	if err != nil {
		return layer.Reading(p, err)
	}
	if p != "" && p == c.mount {
		if len(names) > 0 {
			c.b.Notes.Add("what the boot partition is mounted over was left out", p+"/"+names[0].Name)
		}
		return nil
	}
	if c.count += int64(len(names)); c.count > bounds.MaxEntries {
		return fmt.Errorf("%w: more than %d files", bounds.ErrTooBig, bounds.MaxEntries)
	}
	for _, d := range names {
		c.queue.push(name{dir: dir, name: d.Name, number: d.Inode, need: c.fs.InodeEnd(d.Inode)})
	}
	return nil
}

// next copies the name whose turn it is, or puts it back until what it needs may be there.
func (c *diskCopy) next() error {
	n := c.queue.pop()
	full := path.Join(n.dir.Path(), n.name)
	if len(full) > onefs.MaxPath {
		return fmt.Errorf("reading %q: the path is longer than %d bytes", bounds.Short(full), onefs.MaxPath)
	}
	i, err := c.fs.Inode(n.number)
	if err != nil {
		return layer.Reading(full, err)
	}
	isDir := i.Type() == unix.S_IFDIR
	bootDir := isDir && (full == images.BootPlain || full == images.BootFirmware)
	if !n.read {
		n.read, n.need = true, max(n.need, c.fs.ContentEnd(i))
		if bootDir && !c.chosen {
			n.need = late // where the boot partition goes is in a file that may not be there yet
		}
		if len(c.queue.names) > 0 && n.need > c.queue.names[0].need {
			c.queue.push(n)
			return nil
		}
	}
	if !isDir {
		return c.name(n.dir, n.name, full, i)
	}
	if bootDir {
		if err := c.chooseBoot(); err != nil {
			return err
		}
	}
	if c.seen[n.number] {
		return fmt.Errorf("reading %q: %w: the directory has two names", full, ext4.ErrCorrupt)
	}
	c.seen[n.number] = true
	made, err := c.subdir(n.dir, n.name, full, i)
	if err != nil || made == nil {
		return err
	}
	return c.list(made, full, i)
}

func (c *diskCopy) subdir(dir *layer.Node, name, full string, i *ext4.Inode) (*layer.Node, error) {
	if full == "lost+found" {
		// mkfs makes it; an empty one says nothing.
		if names, err := c.fs.ReadDir(i); err != nil || len(names) == 0 {
			return nil, err
		}
	}
	e, err := c.entry(i, full)
	if err != nil {
		return nil, layer.Reading(full, err)
	}
	return c.b.Mkdir(dir, name, e)
}

// name copies what is no directory.
func (c *diskCopy) name(dir *layer.Node, name, full string, i *ext4.Inode) error {
	if first := c.known[i.Number]; first != nil {
		return c.b.Link(dir, name, first)
	}
	e, err := c.entry(i, full)
	if err != nil {
		return layer.Reading(full, err)
	}
	if e.Type != treesum.File {
		if e.Type == treesum.Symlink {
			if e.Target, err = c.fs.Readlink(i); err != nil {
				return layer.Reading(full, err)
			}
		}
		err = c.b.Special(dir, name, e)
	} else {
		err = c.file(dir, name, full, i, e)
	}
	if err != nil {
		return err
	}
	if n := dir.Children[name]; n != nil && i.Links > 1 {
		c.known[i.Number] = n
	}
	return nil
}

func (c *diskCopy) file(dir *layer.Node, name, full string, i *ext4.Inode, e *treesum.Entry) error {
	f, err := c.b.Create(dir, name, e)
	if err != nil {
		return err
	}
	return c.b.Do(func() error {
		content, err := c.fs.Content(i)
		if err == nil {
			err = c.b.CopyFrom(f, content)
		}
		if err != nil {
			return layer.Reading(full, err)
		}
		return f.Done()
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
		if layer.KeepXattr(c.b.Notes, p, name) {
			if e.Xattrs == nil {
				e.Xattrs = make(map[string]string)
			}
			e.Xattrs[name] = value
		}
	}
	return e, nil
}

// bootFiles copies the boot partition to its mount point, with the owner and modes that
// it would be mounted with.
func (c *diskCopy) bootFiles(fs *fat.FS) error {
	at := c.b.Root.Find(c.mount)
	if at == nil || !at.IsDir() {
		dir, name, err := c.b.Parent(c.mount, c.b.Root.Inode.Sec, c.b.Root.Inode.Nsec)
		if err != nil {
			return err
		}
		if at, err = c.b.Mkdir(dir, name, layer.DefaultDir(c.b.Root.Inode.Sec, c.b.Root.Inode.Nsec)); err != nil {
			return err
		}
	}
	seen := make(map[uint32]bool)
	type fatDir struct {
		at    *layer.Node
		entry fat.Entry
	}
	todo := []fatDir{{at, fs.Root()}}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[d.entry.ID()] {
			return fmt.Errorf("%w: the directory %q has two names", fat.ErrCorrupt, d.at.Path())
		}
		seen[d.entry.ID()] = true
		list, err := fs.ReadDir(d.entry)
		if err != nil {
			return layer.Reading(d.at.Path(), err)
		}
		for _, e := range list {
			if err := c.b.Ctx.Err(); err != nil {
				return err
			}
			t := &treesum.Entry{Type: treesum.File, Mode: 0o755, Size: e.Size, Sec: at.Inode.Sec, Nsec: at.Inode.Nsec}
			if !e.Time.IsZero() {
				t.Sec, t.Nsec = e.Time.Unix(), 0
			}
			if e.Dir {
				t.Type = treesum.Dir
				n, err := c.b.Mkdir(d.at, e.Name, t)
				if err != nil {
					return err
				}
				todo = append(todo, fatDir{n, e})
				continue
			}
			if err := c.bootFile(fs, d.at, e, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *diskCopy) bootFile(fs *fat.FS, dir *layer.Node, e fat.Entry, t *treesum.Entry) error {
	content, err := fs.Open(e)
	if err != nil {
		return layer.Reading(path.Join(dir.Path(), e.Name), err)
	}
	f, err := c.b.Create(dir, e.Name, t)
	if err != nil {
		return err
	}
	return c.b.Do(func() error {
		if err := c.b.CopyFrom(f, content); err != nil {
			return layer.Reading(f.Node.Path(), err)
		}
		return f.Done()
	})
}
