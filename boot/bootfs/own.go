package bootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Files are boot files that a Tree takes instead of those in the board's root.
type Files interface {
	// Open opens a cleaned name, without regard to case. The error is
	// fs.ErrNotExist or ErrRefused, or one of the system.
	Open(name string) (*File, error)
}

// Own is the boot directory in a board's root, open. It is for one goroutine, and for a
// moment: where a name is not there, its other spellings are those of the first look.
type Own struct {
	v     view
	links bool
}

// Own opens the boot directory as it is, whatever Files say. The caller closes it.
func (t Tree) Own() (*Own, error) {
	t.Files = nil
	if t.BootDir == "" {
		t.BootDir = defaultBootDir
	}
	dir, err := openDir(t.Root, t.BootDir)
	if err != nil {
		return nil, err
	}
	return &Own{v: view{Tree: t, dir: dir, listed: map[string][]string{}}}, nil
}

// Close lets go of the directory.
func (o *Own) Close() error { return unix.Close(o.v.dir) }

// Open opens a file by a name that need not be clean.
func (o *Own) Open(name string) (*File, error) {
	clean, err := Clean(name)
	if err != nil {
		return nil, err
	}
	return o.v.open(clean)
}

// Look is Open for what may not be read: the file is opened when it is. What it is called
// by then does not matter.
func (o *Own) Look(name string) (*File, error) {
	clean, err := Clean(name)
	if err != nil {
		return nil, err
	}
	fd, st, err := o.v.look(clean)
	if err != nil {
		return nil, err
	}
	f := &found{fd: fd}
	return fileOf(f, &st), nil
}

// How far Names goes.
const (
	maxNameDepth = 4
	maxAllNames  = 8192
)

// Names lists what can be asked for: everything in the directory and below it
// that is no directory, links as what they are called. One that has more than
// 8,192 is an error.
func (o *Own) Names() ([]string, error) {
	var out []string
	err := o.names(".", 0, &out)
	return out, err
}

// HasLinks says whether Names has found a symbolic link.
func (o *Own) HasLinks() bool { return o.links }

func (o *Own) names(dir string, depth int, out *[]string) error {
	fd, err := openat2(o.v.dir, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("listing boot directory %q: %w", dir, err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	for {
		entries, err := d.ReadDir(512)
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			o.links = o.links || e.Type()&fs.ModeSymlink != 0
			switch {
			case !e.IsDir():
				*out = append(*out, name)
			case depth < maxNameDepth:
				if err := o.names(name, depth+1, out); err != nil {
					return err
				}
			}
			if len(*out) > maxAllNames {
				return fmt.Errorf("boot directory %q has more than %d files", o.v.BootDir, maxAllNames)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing boot directory %q: %w", dir, err)
		}
	}
}

// FromFile makes a File of an open regular file, which it takes over.
func FromFile(f *os.File) (*File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("looking at %q: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%w: %q is no regular file", ErrRefused, f.Name())
	}
	return fileOf(f, &st), nil
}

func fileOf(f interface {
	io.ReaderAt
	io.Closer
}, st *unix.Stat_t,
) *File {
	return &File{
		data: f, closer: f, size: st.Size, modTime: time.Unix(st.Mtim.Unix()), inode: st.Ino,
		identity: fmt.Sprintf("%d:%d:%d:%d", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()),
	}
}

// Identity changes when the file is written or replaced; "" for a generated one.
func (f *File) Identity() string { return f.identity }

// Inode is the file's inode number; 0 for a generated one.
func (f *File) Inode() uint64 { return f.inode }
