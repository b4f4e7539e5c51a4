package layered

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// dir is a merged directory whose parts are open.
type dir struct {
	v   *View
	n   *Node
	fds []int // as n.parts; -1: gone meanwhile
}

func (v *View) openParts(n *Node) (*dir, error) {
	d := &dir{v: v, n: n}
	for _, p := range n.parts {
		fd, err := onefs.OpenDir(v.layers[p.layer], p.path)
		if gone(err) {
			fd, err = -1, nil
		}
		if err != nil {
			d.close()
			return nil, fmt.Errorf("reading %q: %w", "/"+n.Path, err)
		}
		d.fds = append(d.fds, fd)
	}
	return d, nil
}

func (d *dir) close() {
	for _, fd := range d.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// gone says that a name is not there, or is no directory any more: a board that
// runs may have taken it away.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// List gives what a directory holds, sorted by name.
func (v *View) List(n *Node) ([]*Node, error) {
	if !n.IsDir() {
		return nil, unix.ENOTDIR
	}
	d, err := v.openParts(n)
	if err != nil {
		return nil, err
	}
	defer d.close()
	var out []*Node
	seen := map[string]bool{}
	for i, fd := range d.fds {
		if fd < 0 {
			continue
		}
		names, err := onefs.List(fd)
		if err != nil {
			return nil, fmt.Errorf("listing %q: %w", "/"+n.Path, err)
		}
		for _, e := range names {
			if seen[e.Name] {
				continue
			}
			seen[e.Name] = true
			c, err := d.child(e.Name, i)
			if err != nil {
				return nil, err
			}
			if c != nil {
				out = append(out, c)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Node) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// child finds a name in the parts from number first on; nil: it is not there.
func (d *dir) child(name string, first int) (*Node, error) {
	v := d.v
	if name == "" || name == "." || name == ".." {
		return nil, fmt.Errorf("looking for %q in %q: %w", name, "/"+d.n.Path, unix.EINVAL)
	}
	n := &Node{Path: join(d.n.Path, name)}
	for i := first; i < len(d.fds); i++ {
		if d.fds[i] < 0 {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstatat(d.fds[i], name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking at %q: %w", "/"+n.Path, err)
		}
		at := d.n.parts[i]
		here := part{at.layer, join(at.path, name), ID{st.Dev, st.Ino}}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch {
		case len(n.parts) > 0 && !isDir, st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			return found(n)
		case !isDir:
			n.Stat, n.layer, n.real = st, here.layer, here.path
			return n, v.throughIndex(n)
		}
		if len(n.parts) == 0 {
			n.Stat, n.layer, n.real = st, here.layer, here.path
		}
		n.parts = append(n.parts, here)
		if here.layer == len(v.layers)-1 {
			return n, nil
		}
		opaque, redirect, err := dirAttrs(d.fds[i], name)
		switch {
		case gone(err):
			return found(n)
		case err != nil:
			return nil, fmt.Errorf("reading the attributes of %q: %w", "/"+n.Path, err)
		case opaque:
			return n, nil
		case strings.HasPrefix(redirect, "/"):
			return n, v.below(n, here.layer+1, strings.TrimPrefix(redirect, "/"))
		case redirect != "":
			name = redirect // in the rest of this directory
		}
	}
	return found(n)
}

func found(n *Node) (*Node, error) {
	if len(n.parts) == 0 {
		return nil, nil //nolint:nilnil // the caller's ENOENT
	}
	return n, nil
}

// below merges into n the directories that the layers from number first on have
// at a path: where a redirect points.
func (v *View) below(n *Node, first int, p string) error {
	if first >= len(v.layers) {
		return nil
	}
	rest := &View{layers: v.layers[first:], index: -1}
	to, err := rest.Lookup(p)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, q := range to.parts { // none: it is no directory
		q.layer += first
		n.parts = append(n.parts, q)
	}
	return nil
}

// dirAttrs reads what overlayfs has noted at the directory name of fd.
func dirAttrs(fd int, name string) (opaque bool, redirect string, err error) {
	d, err := onefs.OpenDir(fd, name)
	if err != nil {
		return false, "", err
	}
	defer unix.Close(d)
	if opaque, err = isOpaque(d); opaque || err != nil {
		return opaque, "", err
	}
	var buf [unix.PathMax]byte
	n, err := unix.Fgetxattr(d, attrRedirect, buf[:])
	switch {
	case err == unix.ENODATA, err == unix.ENOTSUP:
		return false, "", nil
	case err != nil:
		return false, "", err
	}
	redirect = string(buf[:n])
	if !strings.HasPrefix(redirect, "/") && (strings.Contains(redirect, "/") || redirect == ".." || redirect == ".") {
		return false, "", fmt.Errorf("redirect %q: %w", redirect, unix.EINVAL)
	}
	return false, redirect, nil
}

func isOpaque(fd int) (bool, error) {
	var b [4]byte
	n, err := unix.Fgetxattr(fd, attrOpaque, b[:])
	if err == unix.ENODATA || err == unix.ENOTSUP || err == unix.ERANGE {
		return false, nil
	}
	return err == nil && n == 1 && b[0] == 'y', err
}
