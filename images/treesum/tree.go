package treesum

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// Tree reads the tree below the directory fd and returns its sorted entries. It
// reads all content, on every core; a mount below is an error. progress, which
// may be nil, is told of content bytes as they are read, from several goroutines.
func Tree(ctx context.Context, fd int, progress func(bytes int64)) ([]Entry, error) {
	if progress == nil {
		progress = func(int64) {}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	t := &tree{root: fd, group: g, progress: progress, linked: map[inode]*Entry{}}
	walkErr := t.walk(ctx)
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if walkErr != nil {
		return nil, walkErr
	}
	return Entries(t.names), nil
}

type inode struct{ dev, ino uint64 }

type tree struct {
	root     int
	group    *errgroup.Group
	progress func(int64)
	names    []Name
	linked   map[inode]*Entry // inodes with several names
}

// walk visits every directory; content is hashed by the group.
func (t *tree) walk(ctx context.Context) error {
	dirs := []string{""}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		sub, err := t.dir(ctx, dir)
		if err != nil {
			return err
		}
		dirs = append(dirs, sub...)
	}
	return nil
}

func (t *tree) dir(ctx context.Context, path string) (sub []string, err error) {
	fd, err := onefs.OpenDir(t.root, path)
	if err != nil {
		return nil, reading(path, err)
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return nil, reading(path, err)
	}
	e := FromStat(&st)
	if e.Xattrs, err = onefs.Xattrs(fd, Counted); err != nil {
		return nil, reading(path, err)
	}
	t.names = append(t.names, Name{path, e})
	names, err := onefs.List(fd)
	if err != nil {
		return nil, reading(path, err)
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := n.Name
		if path != "" {
			p = path + "/" + n.Name
		}
		isDir, err := t.name(ctx, fd, n, p)
		if err != nil {
			return nil, reading(p, err)
		}
		if isDir {
			sub = append(sub, p)
		}
	}
	return sub, nil
}

// name takes one name of the directory fd that is no directory.
func (t *tree) name(ctx context.Context, dirfd int, n onefs.Dirent, path string) (isDir bool, err error) {
	fd, err := onefs.OpenAt(dirfd, n.Name, unix.O_PATH, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil
	}
	e := FromStat(&st)
	if st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if known := t.linked[key]; known != nil {
			t.names = append(t.names, Name{path, known})
			return false, nil
		}
		t.linked[key] = e
	}
	t.names = append(t.names, Name{path, e})
	if e.Type == Symlink {
		if e.Target, err = onefs.Readlink(fd); err != nil {
			return false, err
		}
	}
	if e.Type != File {
		e.Xattrs, err = onefs.XattrsAt(dirfd, n.Name, Counted)
		return false, err
	}
	file, err := onefs.OpenAt(dirfd, n.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return false, err
	}
	t.group.Go(func() error {
		defer unix.Close(file)
		if err := t.content(ctx, file, e); err != nil {
			return reading(path, err)
		}
		return nil
	})
	return false, nil
}

func (t *tree) content(ctx context.Context, fd int, e *Entry) (err error) {
	if e.Xattrs, err = onefs.Xattrs(fd, Counted); err != nil {
		return err
	}
	blocks := NewBlocks(e.Size)
	buf := make([]byte, min(e.Size, BlockSize))
	for off := int64(0); off < e.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Whole blocks of a hole need not be read.
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err == nil {
			off = data - data%BlockSize
		}
		b := buf[:min(e.Size-off, BlockSize)]
		if err := ReadAt(fd, b, off); err != nil {
			return err
		}
		blocks.Put(off/BlockSize, b)
		t.progress(int64(len(b)))
		off += int64(len(b))
	}
	e.Sum = blocks.Sum()
	return nil
}

// ReadAt fills b from the file fd at off; a file that ends before is io.ErrUnexpectedEOF.
func ReadAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b, off = b[n:], off+int64(n)
		}
	}
	return nil
}

// FromStat fills in what stat(2) knows of an entry.
func FromStat(st *unix.Stat_t) *Entry {
	e := &Entry{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = Dir
	case unix.S_IFREG:
		e.Type, e.Size = File, st.Size
	case unix.S_IFLNK:
		e.Type, e.Mode = Symlink, 0o777
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = Char, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = Block, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFIFO:
		e.Type = Fifo
	case unix.S_IFSOCK:
		e.Type = Socket
	}
	return e
}

// Name is a path and the inode it names. Names of one inode share the Entry.
type Name struct {
	Path  string
	Inode *Entry
}

// Entries gives every name its entry, in the order of the listing: names of one inode
// after the first become hard links to it. It reorders names.
func Entries(names []Name) []Entry {
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.Path, b.Path) })
	out := make([]Entry, 0, len(names))
	first := make(map[*Entry]string, len(names))
	for _, n := range names {
		if at, again := first[n.Inode]; again {
			out = append(out, Entry{Path: n.Path, Type: Hardlink, Target: at})
			continue
		}
		first[n.Inode] = n.Path
		e := *n.Inode
		e.Path = n.Path
		out = append(out, e)
	}
	return out
}

func reading(path string, err error) error {
	if err == unix.EXDEV {
		return fmt.Errorf("reading %q: another file system is mounted there", "/"+path)
	}
	return fmt.Errorf("reading %q: %w", "/"+path, err)
}
