package tarball

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/importer/source"
	"rubus/images/treesum"
)

// reader makes a tree of an archive's entries.
type reader struct {
	b   *layer.Builder
	in  *counting
	tar *tar.Reader
	src *source.Source
	// hides is set for a layer of an OCI image.
	hides *whiteouts
}

// counting counts what was read, in one goroutine.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// Copy makes a tree of the archive of src, which it reads to its end: whatever it is compressed with
// has its checksum there.
func Copy(b *layer.Builder, src *source.Source) error { return read(b, src, nil) }

// CopyLayer is Copy for a layer of an OCI image, which may be empty: what it hides of the layers
// below is hidden as overlayfs does it.
func CopyLayer(b *layer.Builder, src *source.Source) error {
	w := &whiteouts{hidden: make(map[string]*treesum.Entry)}
	if err := read(b, src, w); err != nil {
		return err
	}
	return w.apply(b)
}

func read(b *layer.Builder, src *source.Source, hides *whiteouts) error {
	// What is packed is more when it is unpacked.
	if err := b.Space.Expect(src.Total); err != nil {
		return err
	}
	in := &counting{r: src.Stream}
	t := &reader{b: b, in: in, tar: tar.NewReader(in), src: src, hides: hides}
	b.Meter.Total.Store(src.Total)
	entries, end := 0, int64(0)
	for {
		h, err := t.tar.Next()
		if err == io.EOF {
			break
		}
		// What it is called insecure for is checked below, and more.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return t.broken(err)
		}
		if err := t.entry(h); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, t.tar); err != nil {
			return t.broken(err)
		}
		entries, end = entries+1, in.n
		b.Meter.Read.Store(src.Taken())
	}
	// The package takes the end of the stream for the end of the archive. The
	// last entry is filled up with less than a block; then comes a block of zeros.
	if in.n-end < 512 {
		return errors.New("it ends in the middle: the archive has no end mark")
	}
	if entries == 0 && hides == nil {
		return errors.New("the archive holds no files")
	}
	return t.drain()
}

// drain reads what follows the archive, so that the checksum of what it is
// compressed with is checked, and whoever writes to a pipe can finish.
func (t *reader) drain() error {
	n, err := io.Copy(io.Discard, io.LimitReader(t.in, bounds.MaxTrailer))
	t.b.Meter.Read.Store(t.src.Taken())
	if err != nil {
		return t.broken(err)
	}
	if n == bounds.MaxTrailer {
		return fmt.Errorf("more than %d MiB follow the end of the archive", bounds.MaxTrailer>>20)
	}
	return nil
}

// broken explains an error of the stream.
func (t *reader) broken(err error) error {
	kind := strings.TrimPrefix(t.src.Format, "tar, ")
	switch {
	case t.b.Ctx.Err() != nil:
		return t.b.Ctx.Err()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("it ends in the middle, %d bytes into the archive", t.in.n)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("the archive is corrupt %d bytes into it: %w", t.in.n, err)
	case kind != "tar":
		return source.Broken(kind, err)
	}
	return fmt.Errorf("reading the archive: %w", err)
}

// entry makes what one entry says.
func (t *reader) entry(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader: // a comment, as git archive writes it
		return nil
	case 'V': // a GNU volume label
		return nil
	}
	p, err := t.clean(h.Name)
	if err != nil {
		return fmt.Errorf("entry %w", err)
	}
	e, err := t.attrs(h, p)
	if err != nil {
		return fmt.Errorf("entry %q: %w", bounds.Short(h.Name), err)
	}
	if p == "" {
		if e.Type != treesum.Dir {
			return fmt.Errorf("entry %q: the root of the archive is no directory: %w", bounds.Short(h.Name), layer.ErrHostile)
		}
		t.b.Root.Inode = e
		return nil
	}
	if t.hides != nil && t.hides.entry(p, e) {
		return nil
	}
	return t.make(h, p, e)
}

// clean is cleanPath. In a layer, which is unpacked onto those below, a name may begin
// with "/", and leads through links that lie there.
func (t *reader) clean(name string) (string, error) {
	if t.hides == nil {
		return layer.CleanPath(name)
	}
	p, err := layer.CleanPath(strings.TrimLeft(name, "/"))
	if err != nil || p == "" || len(t.b.Lower) == 0 {
		return p, err
	}
	if p, err = t.b.Resolve(p); err != nil {
		return "", fmt.Errorf("%q: %w", bounds.Short(name), err)
	}
	return p, nil
}

func (t *reader) make(h *tar.Header, p string, e *treesum.Entry) error {
	dir, name, err := t.b.Parent(p, e.Sec, e.Nsec)
	if err != nil {
		return fmt.Errorf("entry %w", err)
	}
	switch e.Type {
	case treesum.Dir:
		_, err = t.b.Mkdir(dir, name, e)
	case treesum.File:
		return t.file(dir, name, e)
	case treesum.Hardlink:
		var target *layer.Node
		if target, err = t.target(h); err == nil && target == nil {
			t.b.Drop(dir, name)
		} else if err == nil {
			err = t.b.Link(dir, name, target)
		}
	default:
		err = t.b.Special(dir, name, e)
	}
	if err != nil {
		return fmt.Errorf("entry %q: %w", bounds.Short(h.Name), err)
	}
	return nil
}

// target finds the file that a hard link names; nil: it was left out.
func (t *reader) target(h *tar.Header) (*layer.Node, error) {
	to, err := t.clean(h.Linkname)
	if err != nil {
		return nil, fmt.Errorf("hard link to %w", err)
	}
	n := t.b.Root.Find(to)
	switch {
	case n == nil && t.b.Dropped(to):
		return nil, nil
	case n == nil:
		return nil, fmt.Errorf("hard link to %q, which the archive doesn't hold before it: %w", bounds.Short(h.Linkname), layer.ErrHostile)
	case n.IsDir():
		return nil, fmt.Errorf("hard link to the directory %q: %w", bounds.Short(h.Linkname), layer.ErrHostile)
	}
	return n, nil
}

// file copies the content of the entry at hand.
func (t *reader) file(dir *layer.Node, name string, e *treesum.Entry) error {
	f, err := t.b.Create(dir, name, e)
	if err != nil {
		return err
	}
	for i := int64(0); i*treesum.BlockSize < e.Size; i++ {
		buf := t.b.Buffer()
		n := min(treesum.BlockSize, e.Size-i*treesum.BlockSize)
		if _, err := io.ReadFull(t.tar, buf[:n]); err != nil {
			return t.broken(err)
		}
		t.b.Meter.Read.Store(t.src.Taken())
		f.Expect()
		if err := t.b.Do(func() error {
			defer t.b.Free(buf)
			return f.Put(i, buf[:n])
		}); err != nil {
			return err
		}
	}
	return f.Done()
}

// kinds are the types of entries in a tar header and ours.
var kinds = map[byte]byte{
	tar.TypeReg: treesum.File, 0: treesum.File, tar.TypeCont: treesum.File, tar.TypeGNUSparse: treesum.File,
	tar.TypeLink: treesum.Hardlink, tar.TypeSymlink: treesum.Symlink, tar.TypeDir: treesum.Dir,
	tar.TypeChar: treesum.Char, tar.TypeBlock: treesum.Block, tar.TypeFifo: treesum.Fifo,
}

// attrs reads the attributes of an entry.
func (t *reader) attrs(h *tar.Header, p string) (*treesum.Entry, error) {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return nil, fmt.Errorf("it is of type %q, which rubus doesn't know", string(rune(h.Typeflag)))
	}
	// The highest number means "leave it" to chown(2).
	if h.Uid < 0 || int64(h.Uid) >= math.MaxUint32 || h.Gid < 0 || int64(h.Gid) >= math.MaxUint32 {
		return nil, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	e := &treesum.Entry{
		Type: kind, Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid),
		Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond()),
	}
	switch kind {
	case treesum.File:
		e.Size = h.Size
	case treesum.Char, treesum.Block:
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return nil, fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case treesum.Symlink:
		if e.Target = h.Linkname; e.Target == "" || len(e.Target) > 4095 || strings.IndexByte(e.Target, 0) >= 0 {
			return nil, fmt.Errorf("symbolic link to %q", bounds.Short(e.Target))
		}
	}
	return e, t.xattrs(h, p, e)
}

// xattrs reads extended attributes from the PAX records of GNU tar, bsdtar and
// Go, and access control lists as GNU tar and star write them.
func (t *reader) xattrs(h *tar.Header, p string, e *treesum.Entry) error {
	set := func(name, value string) {
		if !layer.KeepXattr(t.b.Notes, p, name) {
			return
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = value
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			set(name, value)
		}
	}
	for key, name := range map[string]string{
		"SCHILY.acl.access":  "system.posix_acl_access",
		"SCHILY.acl.default": "system.posix_acl_default",
	} {
		text := h.PAXRecords[key]
		if text == "" || e.Xattrs[name] != "" {
			continue
		}
		acl, err := parseACL(text)
		if err != nil {
			return fmt.Errorf("access control list: %w", err)
		}
		// One that only says what the mode says is none.
		if acl != "" {
			set(name, acl)
		}
	}
	return nil
}
