package layered

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// OpenParent opens the directory that n's object lies in, and gives its name there: for
// calls that must not open the object. The caller closes the descriptor.
func (v *View) OpenParent(n *Node) (fd int, name string, err error) {
	root, p := v.locate(n)
	dir, name := path.Split(p)
	if fd, err = onefs.OpenDir(root, path.Clean(dir)); err != nil {
		return -1, "", fmt.Errorf("opening the directory of %q: %w", "/"+n.Path, err)
	}
	return fd, name, nil
}

// locate gives a descriptor and a name below it that are n's object.
func (v *View) locate(n *Node) (fd int, p string) {
	if n.indexed {
		return v.index, n.real
	}
	return v.layers[n.layer], n.real
}

// Open opens a regular file for reading, or a directory's topmost part. It waits for
// nothing and changes no access time. Anything else is unix.EINVAL.
func (v *View) Open(n *Node) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME
	switch {
	case n.IsDir():
		flags |= unix.O_DIRECTORY
	case !n.IsRegular():
		return nil, fmt.Errorf("opening %q: it is no regular file: %w", "/"+n.Path, unix.EINVAL)
	}
	root, p := v.locate(n)
	fd, err := onefs.OpenAt(root, p, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", "/"+n.Path, err)
	}
	st, err := onefs.Fstat(fd)
	if err == nil && st.Mode&unix.S_IFMT != n.Stat.Mode&unix.S_IFMT {
		err = unix.ESTALE // replaced since it was looked at
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("opening %q: %w", "/"+n.Path, err)
	}
	return os.NewFile(uintptr(fd), "/"+n.Path), nil
}

// ReadFile reads a regular file of at most limit bytes by its path; symbolic links are not followed.
func (v *View) ReadFile(p string, limit int64) ([]byte, error) {
	n, err := v.Lookup(p)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", "/"+p, err)
	}
	f, err := v.Open(n)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("reading %q: it is larger than %d bytes", "/"+p, limit)
	}
	return b, err
}

// Readlink is where a symbolic link points.
func (v *View) Readlink(n *Node) (string, error) {
	root, p := v.locate(n)
	fd, err := onefs.OpenAt(root, p, unix.O_PATH, 0)
	if err != nil {
		return "", fmt.Errorf("reading the link %q: %w", "/"+n.Path, err)
	}
	defer unix.Close(fd)
	return onefs.Readlink(fd)
}

// Xattrs are the extended attributes of an object but for overlayfs' own.
func (v *View) Xattrs(n *Node) (map[string]string, error) {
	root, p := v.locate(n)
	dir, name := path.Split(p)
	fd, err := onefs.OpenDir(root, path.Clean(dir))
	if err != nil {
		return nil, fmt.Errorf("reading the attributes of %q: %w", "/"+n.Path, err)
	}
	defer unix.Close(fd)
	if name == "" {
		name = "."
	}
	x, err := onefs.XattrsAt(fd, name, func(s string) bool { return !IsOverlayAttr(s) })
	if err != nil {
		return nil, fmt.Errorf("reading the attributes of %q: %w", "/"+n.Path, err)
	}
	return x, nil
}

// IsOverlayAttr says whether an extended attribute is overlayfs' own.
func IsOverlayAttr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// Origin is the golden object that n, in the upper, was copied from; ok is false when
// there is none, or none any more.
func (v *View) Origin(n *Node) (id ID, ok bool) {
	root, p := v.locate(n)
	dir, name := path.Split(p)
	fd, err := onefs.OpenDir(root, path.Clean(dir))
	if err != nil {
		return ID{}, false
	}
	defer unix.Close(fd)
	x, err := onefs.XattrsAt(fd, name, func(s string) bool { return s == attrOrigin })
	if err != nil {
		return ID{}, false
	}
	h, ok := parseOrigin([]byte(x[attrOrigin]))
	if !ok {
		return ID{}, false
	}
	return v.golden(h)
}
