package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/treesum"
)

// Top is a layer on top of all others of a version that is being made: a few files, so
// that what lies below stays as it was imported, and is shared. Directories on the way
// to a file are those below, or new ones of root. Its methods are for one goroutine.
type Top struct {
	b *layer.Builder
	// Below is what lies below, merged. Links in it are followed within their layer only.
	Below fs.FS
	// Dirs are the trees of the layers below, the uppermost first.
	Dirs []string
	// Time is what new files and directories get; it is now, unless it is set.
	Time time.Time
	used bool
}

// top makes the layer, unless nothing is put into it.
func (s *stack) top(ctx context.Context, fill func(context.Context, *Top) error) error {
	below := images.Merged(s.dirs())
	used := false
	err := s.add(ctx, "", func(b *layer.Builder) error {
		t := &Top{b: b, Below: below, Dirs: s.dirs(), Time: s.store.Now()}
		err := fill(ctx, t)
		used = t.used
		return err
	})
	if err == nil && !used {
		last := len(s.built) - 1
		err = s.built[last].Pending.Abort()
		s.built = s.built[:last]
	}
	return err
}

// Note says something about the import, with a path for an example, or "".
func (t *Top) Note(what, path string) { t.b.Notes.Add(what, path) }

// Lstat describes what the layers below have at a path; nil: nothing.
func (t *Top) Lstat(p string) (*treesum.Entry, error) {
	p, err := layer.CleanPath(p)
	if err != nil {
		return nil, err
	}
	return t.b.Lower.Entry(p)
}

func (t *Top) at(p string) (*layer.Node, string, error) {
	t.used = true
	p, err := layer.CleanPath(p)
	if err != nil {
		return nil, "", err
	}
	if p == "" {
		return nil, "", errors.New("that is the root")
	}
	if p, err = t.b.Resolve(p); err != nil {
		return nil, "", err
	}
	return t.b.Parent(p, t.Time.Unix(), 0)
}

// WriteFile puts a file of root there, with the 12 permission bits given and Time.
func (t *Top) WriteFile(p string, data []byte, mode uint32) error {
	return t.Put(p, &treesum.Entry{Type: treesum.File, Mode: mode, Size: int64(len(data)), Sec: t.Time.Unix()}, memory(data))
}

// Content is what a file is made of: NextData is the first offset from off on with
// something else than a hole.
type Content = layer.Content

// Put puts anything but a directory or hard link there. content is that of a file.
func (t *Top) Put(p string, e *treesum.Entry, content Content) error {
	dir, name, err := t.at(p)
	if err == nil && e.Type != treesum.File {
		err = t.b.Special(dir, name, e)
	} else if err == nil {
		var f *layer.File
		if f, err = t.b.Create(dir, name, e); err == nil {
			if err = t.b.CopyFrom(f, content); err == nil {
				err = f.Done()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("putting %q on top: %w", p, err)
	}
	return nil
}

// Gzip puts a file of the layers below there packed, with its owner and mode. What is packed already, or
// not there, is left alone.
func (t *Top) Gzip(p string) error {
	e, err := t.Lstat(p)
	if err != nil || e == nil || e.Type != treesum.File {
		return err
	}
	if e.Size > maxGzip {
		return fmt.Errorf("packing %q: it has more than %s", p, bounds.MiB(maxGzip))
	}
	b, err := fs.ReadFile(t.Below, p)
	if err != nil {
		return fmt.Errorf("packing %q: %w", p, err)
	}
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return nil
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	t.Note(fmt.Sprintf("a kernel is packed: %s instead of %s to send for each boot", bounds.MiB(int64(out.Len())), bounds.MiB(int64(len(b)))), "/"+p)
	return t.Put(p, &treesum.Entry{Type: treesum.File, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: int64(out.Len()), Sec: t.Time.Unix()}, memory(out.Bytes()))
}

// Setuid puts a file of the layers below there with the bit that has it run as its owner, and without
// capabilities. What is not there is left alone.
func (t *Top) Setuid(p string) error {
	e, err := t.Lstat(p)
	if err != nil || e == nil || e.Type != treesum.File {
		return err
	}
	if e.Size > maxGzip {
		return fmt.Errorf("setting the mode of %q: it has more than %s", p, bounds.MiB(maxGzip))
	}
	b, err := fs.ReadFile(t.Below, p)
	if err != nil {
		return fmt.Errorf("setting the mode of %q: %w", p, err)
	}
	return t.Put(p, &treesum.Entry{Type: treesum.File, Mode: e.Mode | unix.S_ISUID, UID: e.UID, GID: e.GID, Size: e.Size, Sec: e.Sec, Nsec: e.Nsec}, memory(b))
}

// maxGzip bounds what is packed in memory, in bytes.
const maxGzip = 256 << 20

// Symlink makes a symbolic link of root.
func (t *Top) Symlink(p, target string) error {
	return t.Put(p, &treesum.Entry{Type: treesum.Symlink, Target: target, Sec: t.Time.Unix()}, nil)
}

// Dir makes a directory, or gives one below the attributes of e.
func (t *Top) Dir(p string, e *treesum.Entry) error {
	dir, name, err := t.at(p)
	if err == nil {
		_, err = t.b.Mkdir(dir, name, e)
	}
	if err != nil {
		return fmt.Errorf("putting %q on top: %w", p, err)
	}
	return nil
}

// Remove hides what the layers below have at a path. Nothing there is no error.
func (t *Top) Remove(p string) error {
	p, err := layer.CleanPath(p)
	if err != nil {
		return err
	}
	if p, err = t.b.Resolve(p); err != nil {
		return fmt.Errorf("hiding %q: %w", p, err)
	}
	if e, err := t.b.Lower.Entry(p); err != nil || e == nil {
		return err
	}
	return t.b.Whiteout(p)
}

// memory is content that is at hand.
type memory []byte

// ReadAt implements io.ReaderAt.
func (m memory) ReadAt(b []byte, off int64) (int, error) { return copy(b, m[off:]), nil }

// Size is the length in bytes.
func (m memory) Size() int64 { return int64(len(m)) }

// NextData is off: there are no holes.
func (m memory) NextData(off int64) int64 { return min(off, int64(len(m))) }
