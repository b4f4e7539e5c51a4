package upper

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// maxPending bounds the attributes of directories that a Maker remembers, in bytes.
const maxPending = 64 << 20

// Maker makes an upper object by object, as somebody says who is not trusted: nothing
// is made outside of its directory, and nothing twice.
type Maker struct {
	dst     int
	dirs    []dirAttrs
	pending int
	size    Size
}

// NewMaker begins an upper in the empty directory to.
func NewMaker(to string) (*Maker, error) {
	dst, err := onefs.OpenRoot(to)
	if err != nil {
		return nil, err
	}
	// What the directory's own passes on to what is made in it is not the upper's.
	_ = unix.Fremovexattr(dst, "system.posix_acl_default")
	return &Maker{dst: dst}, nil
}

// Close gives up what is open.
func (m *Maker) Close() { unix.Close(m.dst) }

// Size is what was made so far.
func (m *Maker) Size() Size { return m.size }

// ErrHostile is wrapped by errors about objects that nobody means well with.
var ErrHostile = errors.New("refused")

// CheckPath says whether a path may be made in an upper: it is clean and relative.
func CheckPath(p string) error {
	if p == "" {
		return nil
	}
	if len(p) > onefs.MaxPath {
		return fmt.Errorf("the path %q… is longer than %d bytes: %w", p[:100], onefs.MaxPath, ErrHostile)
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("the path %.200q: %w", p, ErrHostile)
		}
	}
	return nil
}

// allowed says whether an attribute may be set, whoever asks for it.
func allowed(xattrs map[string]string) error {
	for name, value := range xattrs {
		ok := false
		switch name {
		case "trusted.overlay.opaque":
			ok = value == "y"
		case "trusted.overlay.redirect":
			ok = checkRedirect(value)
		case "trusted.overlay.protattr":
			ok = len(value) < 64
		case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
			ok = true
		default:
			ok = keepAttr(name) && (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security."))
		}
		if !ok {
			return fmt.Errorf("the attribute %.100q: %w", name, ErrHostile)
		}
	}
	return nil
}

// checkRedirect says whether a redirect is a name, or a path from the root of the layers.
func checkRedirect(v string) bool {
	p := strings.TrimPrefix(v, "/")
	return len(v) <= 256 && p != "" && CheckPath(p) == nil && (p != v || !strings.Contains(v, "/"))
}

// parent opens the directory that a path lies in.
func (m *Maker) parent(p string) (fd int, name string, err error) {
	if p == "" {
		return -1, "", fmt.Errorf("the root is no directory: %w", ErrHostile)
	}
	if err := CheckPath(p); err != nil {
		return -1, "", err
	}
	if fd, err = onefs.OpenDir(m.dst, parent(p)); err != nil {
		return -1, "", at(p, fmt.Errorf("what it lies in: %w: %w", err, ErrHostile))
	}
	return fd, path.Base(p), nil
}

// Dir makes a directory. Its attributes are set by Finish.
func (m *Maker) Dir(p string, st *unix.Stat_t, xattrs map[string]string) error {
	if err := allowed(xattrs); err != nil {
		return at(p, err)
	}
	if p == "" && len(m.dirs) > 0 {
		return fmt.Errorf("the root is there twice: %w", ErrHostile)
	}
	if p != "" {
		fd, name, err := m.parent(p)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(fd, name, 0o700)
		unix.Close(fd)
		if err != nil {
			return at(p, err)
		}
		m.size.Files++
	}
	m.pending += len(p) + 64
	for k, v := range xattrs {
		m.pending += len(k) + len(v)
	}
	if m.pending > maxPending {
		return fmt.Errorf("the directories have more than %d MiB of names and attributes: %w", maxPending>>20, ErrHostile)
	}
	m.dirs = append(m.dirs, dirAttrs{p, *st, xattrs})
	return nil
}

// File makes a regular file of the size in st, with the data that in has: all
// segments, one after the other.
func (m *Maker) File(p string, st *unix.Stat_t, xattrs map[string]string, data []Segment, in io.Reader) error {
	if err := allowed(xattrs); err != nil {
		return at(p, err)
	}
	fd, name, err := m.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	out, err := onefs.OpenAt(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return at(p, err)
	}
	defer unix.Close(out)
	if err := m.fill(out, st.Size, data, in); err != nil {
		return at(p, err)
	}
	m.size.Files++
	return at(p, setAttrs(out, st, xattrs))
}

func (m *Maker) fill(out int, size int64, data []Segment, in io.Reader) error {
	if err := unix.Ftruncate(out, size); err != nil {
		return err
	}
	buf := make([]byte, min(size, 256<<10))
	last := int64(0)
	for _, s := range data {
		if s.Off < last || s.Len < 0 || s.Len > size-s.Off || s.Off > size {
			return fmt.Errorf("its data lies where it cannot: %w", ErrHostile)
		}
		last = s.Off + s.Len
		for off := s.Off; off < last; {
			b := buf[:min(int64(len(buf)), last-off)]
			if _, err := io.ReadFull(in, b); err != nil {
				return err
			}
			if err := writeAt(out, b, off); err != nil {
				return err
			}
			off += int64(len(b))
			m.size.Bytes += int64(len(b))
		}
	}
	return nil
}

func writeAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// Special makes a symbolic link, device, fifo, socket or whiteout, as the mode says.
func (m *Maker) Special(p string, st *unix.Stat_t, xattrs map[string]string, target string) error {
	if err := allowed(xattrs); err != nil {
		return at(p, err)
	}
	fd, name, err := m.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch kind := st.Mode & unix.S_IFMT; kind {
	case unix.S_IFLNK:
		err = unix.Symlinkat(target, fd, name)
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		err = unix.Mknodat(fd, name, kind|0o600, int(st.Rdev))
	default:
		err = ErrHostile
	}
	if err == nil {
		err = setAttrsAt(fd, name, st, xattrs)
	}
	if err != nil {
		return at(p, err)
	}
	m.size.Files++
	return nil
}

// Link makes another name of what was made before.
func (m *Maker) Link(p, first string) error {
	if err := CheckPath(first); err != nil {
		return err
	}
	// Opened first: a path is followed through links that the upper holds.
	old, err := onefs.OpenAt(m.dst, first, unix.O_PATH, 0)
	if err != nil {
		return at(p, fmt.Errorf("another name of %.200q: %w: %w", first, err, ErrHostile))
	}
	defer unix.Close(old)
	fd, name, err := m.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return at(p, unix.Linkat(old, "", fd, name, unix.AT_EMPTY_PATH))
}

// Take moves what another upper, in the directory from, has at a path here, with all its
// attributes. Of a directory it makes another one with the same attributes.
func (m *Maker) Take(from int, p string) error {
	if err := CheckPath(p); err != nil {
		return err
	}
	fd, err := onefs.OpenAt(from, p, unix.O_PATH, 0)
	if err != nil {
		return at(p, fmt.Errorf("in the backup before: %w", err))
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return at(p, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		dir, err := onefs.OpenDir(from, p)
		if err != nil {
			return at(p, err)
		}
		defer unix.Close(dir)
		x, err := onefs.Xattrs(dir, keepAttr)
		if err != nil {
			return at(p, err)
		}
		return m.Dir(p, &st, x)
	}
	in, err := onefs.OpenDir(from, parent(p))
	if err != nil {
		return at(p, err)
	}
	defer unix.Close(in)
	out, name, err := m.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	m.size.Files++
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		m.size.Bytes += min(st.Size, st.Blocks*512)
	}
	return at(p, unix.Renameat2(in, name, out, name, unix.RENAME_NOREPLACE))
}

// Finish gives the directories their attributes. It blocks until all is on the disk.
func (m *Maker) Finish() error {
	if len(m.dirs) == 0 || m.dirs[0].path != "" {
		return fmt.Errorf("the upper has no root: %w", ErrHostile)
	}
	c := &copier{dst: m.dst}
	for i := len(m.dirs) - 1; i >= 0; i-- {
		if err := c.finishDir(m.dirs[i]); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(m.dst); err != nil {
		return fmt.Errorf("bringing it to the disk: %w", err)
	}
	return nil
}
