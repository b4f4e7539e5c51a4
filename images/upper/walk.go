package upper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/layered"
)

// Object is one name of what a copy of an upper would hold.
type Object struct {
	// Path is relative to the root, whose own is "".
	Path string
	Stat unix.Stat_t
	// Xattrs are the attributes that a copy gets: of overlayfs' own only those that say
	// what hides what.
	Xattrs map[string]string
	// Target is where a symbolic link points.
	Target string
	// Link is the Path, told of before, of which this is another name; "": of none.
	Link string

	dir  int // with place, where the object itself lies
	real string
}

// IsWhiteout says that the object stands for a golden one that was removed.
func (o *Object) IsWhiteout() bool {
	return o.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && o.Stat.Rdev == 0
}

// Open opens the regular file that the object is, as long as its Tree is open.
func (o *Object) Open() (*os.File, error) {
	fd, err := onefs.OpenAt(o.dir, o.real, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return nil, at(o.Path, err)
	}
	f := os.NewFile(uintptr(fd), "/"+o.Path)
	st, err := onefs.Fstat(fd)
	if err == nil && (st.Ino != o.Stat.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = at(o.Path, unix.ESTALE)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Tree is an upper, or any other directory, that is open to be walked.
type Tree struct {
	src  int
	v    *layered.View // nil: it has no index
	skip []string
}

// OpenTree opens the upper in the directory from, as Copy takes it.
func OpenTree(layers []string, from string) (*Tree, error) {
	v, err := layered.OpenUpper(layers, from)
	if err != nil {
		return nil, err
	}
	if err := native(layers, v); err != nil {
		v.Close()
		return nil, fmt.Errorf("opening an upper: %w", err)
	}
	src, err := onefs.OpenRoot(path.Join(from, "upper"))
	if err != nil {
		v.Close()
		return nil, err
	}
	return &Tree{src: src, v: v}, nil
}

// OpenPlain opens a directory that is no upper, or a layer. Names in it that are in skip
// are left out.
func OpenPlain(dir string, skip ...string) (*Tree, error) {
	src, err := onefs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{src: src, skip: skip}, nil
}

// Close gives up what is open.
func (t *Tree) Close() {
	unix.Close(t.src)
	if t.v != nil {
		t.v.Close()
	}
}

// Walk calls f for all that a copy would hold: a directory before what it holds, in
// the order of names; names that only the index tells of come last. Nobody may
// write to an upper meanwhile.
func (t *Tree) Walk(ctx context.Context, f func(*Object) error) error {
	w := &walker{ctx: ctx, t: t, f: f, linked: map[layered.ID]string{}, made: map[string]bool{}}
	if err := w.dir(""); err != nil {
		return err
	}
	if t.v == nil {
		return nil
	}
	root, err := t.v.Root()
	if err != nil {
		return err
	}
	return w.aliases([]*layered.Node{root})
}

type walker struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	t      *Tree
	f      func(*Object) error
	linked map[layered.ID]string
	made   map[string]bool // directories that the upper has not
}

func (w *walker) dir(p string) error {
	in, err := onefs.OpenDir(w.t.src, p)
	if err != nil {
		return at(p, err)
	}
	defer unix.Close(in)
	st, err := onefs.Fstat(in)
	if err != nil {
		return at(p, err)
	}
	x, err := onefs.Xattrs(in, keepAttr)
	if err != nil {
		return at(p, err)
	}
	if err := w.f(&Object{Path: p, Stat: st, Xattrs: x, dir: w.t.src, real: p}); err != nil {
		return err
	}
	names, err := onefs.List(in)
	if err != nil {
		return at(p, err)
	}
	slices.SortFunc(names, func(a, b onefs.Dirent) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if p == "" && slices.Contains(w.t.skip, e.Name) {
			continue
		}
		full := path.Join(p, e.Name)
		if len(full) > onefs.MaxPath {
			return at(full, unix.ENAMETOOLONG)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(in, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return at(full, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = w.dir(full)
		} else {
			err = w.object(in, e.Name, false, st, &Object{Path: full, dir: w.t.src, real: full})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object tells of what is no directory: name in the directory in. See copier.object.
func (w *walker) object(in int, name string, indexed bool, st unix.Stat_t, o *Object) (err error) {
	o.Stat = st
	id := layered.ID{Dev: st.Dev, Ino: st.Ino}
	if first, again := w.linked[id]; again {
		o.Link = first
		return w.f(o)
	}
	if o.Xattrs, err = onefs.XattrsAt(in, name, keepAttr); err != nil {
		return at(o.Path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		fd, err := onefs.OpenAt(in, name, unix.O_PATH, 0)
		if err == nil {
			o.Target, err = onefs.Readlink(fd)
			unix.Close(fd)
		}
		if err != nil {
			return at(o.Path, err)
		}
	}
	if (st.Nlink > 1 || indexed) && !o.IsWhiteout() {
		w.linked[id] = o.Path
	}
	return w.f(o)
}

// aliases tells of the names that only the index has, below the last of chain, a
// directory with all above it.
func (w *walker) aliases(chain []*layered.Node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	list, err := w.t.v.List(chain[len(chain)-1])
	if err != nil {
		return err
	}
	for _, n := range list {
		switch {
		case n.IsDir() && w.t.v.MayHaveAliases(n):
			if err := w.aliases(append(chain[:len(chain):len(chain)], n)); err != nil {
				return err
			}
		case n.Indexed():
			if err := w.alias(chain, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) alias(chain []*layered.Node, n *layered.Node) error {
	for i, d := range chain {
		if _, has := w.t.v.UpperPath(d); has || i == 0 || w.made[d.Path] {
			continue
		}
		x, err := w.t.v.Xattrs(d)
		if err != nil {
			return err
		}
		w.made[d.Path] = true
		if err := w.f(&Object{Path: d.Path, Stat: d.Stat, Xattrs: x}); err != nil {
			return err
		}
	}
	index, name := w.t.v.IndexFile(n)
	return w.object(index, name, true, n.Stat, &Object{Path: n.Path, dir: index, real: name})
}

// SegmentLimit is into how many pieces of data Segments divides a file at most.
const SegmentLimit = 4096

// Segment is a piece of a file that is no hole.
type Segment struct{ Off, Len int64 }

// Segments finds the data of an open file of a size. What lies between pieces is
// zeros; a file with very many holes has some of them told of as data.
func Segments(f *os.File, size int64) ([]Segment, error) {
	fd := int(f.Fd())
	var out []Segment
	for off := int64(0); off < size; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("looking for the data of %q: %w", f.Name(), err)
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("looking for the holes of %q: %w", f.Name(), err)
		}
		off = min(end, size)
		if data >= size {
			break
		}
		if len(out) == SegmentLimit {
			last := &out[len(out)-1]
			last.Len = off - last.Off
			continue
		}
		out = append(out, Segment{data, off - data})
	}
	return out, nil
}
