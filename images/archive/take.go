package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images/upper"
)

// Taken is a tree as it was at one moment, ready to be written.
type Taken struct {
	id      string
	entries []entry
	spool   *os.File // nil: content is read where it lies
	room    func(bytes int64) error
	tree    *upper.Tree
	end     int64 // of what is in the spool
	size    upper.Size
}

type entry struct {
	path  string
	stamp stamp
	// object is nil when it is as it was in the backup before.
	object *upper.Object
	data   []upper.Segment
	at     int64 // where the spool has the data
}

// settle is for how long, in seconds, what changed is not taken for unchanged: the clock
// of a file system ticks, and two changes in one tick look like one.
const settle = 1

// Spool is where content is copied to.
type Spool struct {
	// Dir is a directory, Room says whether it has room for so many bytes more.
	Dir  string
	Room func(bytes int64) error
}

// Take looks at a tree, whose id tells it from others of its name. What is not in old
// as it is now is new. With spool, which may be nil, the content of what is new is copied there
// (shared where the file system can), to a file without a name: once Take returned the tree may change.
// Else it must not change until it is written. now is the time, for what counts as settled.
// The caller closes what it gets.
func Take(ctx context.Context, t *upper.Tree, id string, old List, spool *Spool, now time.Time, progress func(upper.Size)) (*Taken, error) {
	k := &Taken{id: id}
	if spool != nil {
		fd, err := unix.Open(spool.Dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("making a temporary file in %q: %w", spool.Dir, err)
		}
		k.spool, k.room = os.NewFile(uintptr(fd), filepath.Join(spool.Dir, "spool")), spool.Room
	}
	if progress == nil {
		progress = func(upper.Size) {}
	}
	settled := now.Unix() - settle
	moved := map[string]bool{} // new first names of files with several: then all their names are new
	err := t.Walk(ctx, func(o *upper.Object) error {
		e := entry{path: o.Path, stamp: stampOf(&o.Stat, settled)}
		if !old.has(id, o.Path, e.stamp) || moved[o.Link] {
			if o.Link == "" && o.Stat.Nlink > 1 {
				moved[o.Path] = true
			}
			e.object = o
			if err := k.content(ctx, &e); err != nil {
				return err
			}
			k.size.Files++
			progress(k.size)
		}
		k.entries = append(k.entries, e)
		return nil
	})
	if err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// TakeOpen is Take without a copy: the tree is open as long as what it gives, which closes
// it, and must not change.
func TakeOpen(ctx context.Context, t *upper.Tree, id string, now time.Time) (*Taken, error) {
	k, err := Take(ctx, t, id, List{}, nil, now, nil)
	if err != nil {
		t.Close()
		return nil, err
	}
	k.tree = t
	return k, nil
}

// Close gives up what is open.
func (k *Taken) Close() {
	if k.spool != nil {
		k.spool.Close()
	}
	if k.tree != nil {
		k.tree.Close()
	}
}

// Size is what is new.
func (k *Taken) Size() upper.Size { return k.size }

// isFile says that an entry has content.
func (e *entry) isFile() bool {
	return e.object != nil && e.object.Link == "" && e.object.Stat.Mode&unix.S_IFMT == unix.S_IFREG
}

func (k *Taken) content(ctx context.Context, e *entry) error {
	if !e.isFile() || e.object.Stat.Size == 0 {
		return nil
	}
	f, err := e.object.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if e.data, err = upper.Segments(f, e.object.Stat.Size); err != nil {
		return err
	}
	bytes := int64(0)
	for _, s := range e.data {
		bytes += s.Len
	}
	k.size.Bytes += bytes
	if k.spool == nil {
		return nil
	}
	if k.room != nil {
		if err := k.room(bytes); err != nil {
			return err
		}
	}
	// What is to be shared lies at the start of a block.
	const block = 64 << 10
	first := true
	for _, s := range e.data {
		if s.Len >= block && first {
			k.end = (k.end + block - 1) &^ (block - 1)
		}
		if first {
			e.at, first = k.end, false
		}
		if err := k.copy(ctx, f, s); err != nil {
			return fmt.Errorf("copying %q: %w", "/"+e.path, err)
		}
	}
	return nil
}

func (k *Taken) copy(ctx context.Context, f *os.File, s upper.Segment) error {
	from := s.Off
	for end := s.Off + s.Len; from < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.CopyFileRange(int(f.Fd()), &from, int(k.spool.Fd()), &k.end, int(min(end-from, 64<<20)), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// open gives the content of an entry, without holes.
func (k *Taken) open(e *entry) (io.ReadCloser, error) {
	if k.spool != nil {
		n := int64(0)
		for _, s := range e.data {
			n += s.Len
		}
		return io.NopCloser(io.NewSectionReader(k.spool, e.at, n)), nil
	}
	f, err := e.object.Open()
	if err != nil {
		return nil, err
	}
	var parts []io.Reader
	for _, s := range e.data {
		parts = append(parts, io.NewSectionReader(f, s.Off, s.Len))
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(parts...), f}, nil
}
