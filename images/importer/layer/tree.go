package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// Node is one name of the tree that is being built. The tree in memory is the
// truth about what lies below the root: nobody else writes there.
type Node struct {
	name     string
	parent   *Node // nil for the root
	Inode    *treesum.Entry
	Children map[string]*Node // of a directory
}

// IsDir says whether it is a directory.
func (n *Node) IsDir() bool { return n.Inode.Type == treesum.Dir }

// Path is relative to the root.
func (n *Node) Path() string {
	if n.parent == nil {
		return ""
	}
	var parts []string
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "/")
}

// names lists the tree.
func (n *Node) names(path string, out []treesum.Name) []treesum.Name {
	out = append(out, treesum.Name{Path: path, Inode: n.Inode})
	for name, c := range n.Children {
		p := name
		if path != "" {
			p = path + "/" + name
		}
		out = c.names(p, out)
	}
	return out
}

// ErrHostile is wrapped by errors about names that would lead out of the tree.
var ErrHostile = errors.New("refused")

// CleanPath makes a path of an archive relative to the root of the tree: "" is
// the root. What could lead anywhere else is refused, not repaired.
func CleanPath(path string) (string, error) {
	switch {
	case strings.HasPrefix(path, "/"):
		return "", fmt.Errorf("%q is absolute: %w (make the archive with \"tar -C ROOT .\")", path, ErrHostile)
	case strings.IndexByte(path, 0) >= 0:
		return "", fmt.Errorf("%q holds a NUL byte: %w", path, ErrHostile)
	}
	var b strings.Builder
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return "", fmt.Errorf("%q climbs out with \"..\": %w", path, ErrHostile)
		case len(part) > unix.NAME_MAX:
			return "", fmt.Errorf("%q: a name is longer than %d bytes", bounds.Short(path), unix.NAME_MAX)
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(part)
	}
	if b.Len() > onefs.MaxPath {
		return "", fmt.Errorf("%q: the path is longer than %d bytes", bounds.Short(path), onefs.MaxPath)
	}
	return b.String(), nil
}

// Find looks a clean path up, without following anything; nil: it isn't there.
func (n *Node) Find(path string) *Node {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" {
			continue
		}
		if n = n.Children[part]; n == nil {
			return nil
		}
	}
	return n
}

// dirCache keeps directories of the tree open, the last used ones.
type dirCache struct {
	root  int
	fds   map[*Node]int
	order []*Node // oldest first
}

const cachedDirs = 64

func newDirCache(root int) *dirCache { return &dirCache{root: root, fds: make(map[*Node]int)} }

// open gives a descriptor of a directory; it is valid until the next call.
func (c *dirCache) open(n *Node) (int, error) {
	if n.parent == nil {
		return c.root, nil
	}
	if fd, ok := c.fds[n]; ok {
		return fd, nil
	}
	fd, err := onefs.OpenAt(c.root, n.Path(), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %q in the new layer: %w", n.Path(), err)
	}
	if len(c.order) == cachedDirs {
		c.drop(c.order[0])
	}
	c.fds[n] = fd
	c.order = append(c.order, n)
	return fd, nil
}

// drop closes a directory, which may be about to go.
func (c *dirCache) drop(n *Node) {
	fd, ok := c.fds[n]
	if !ok {
		return
	}
	unix.Close(fd)
	delete(c.fds, n)
	for i, o := range c.order {
		if o == n {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

func (c *dirCache) close() {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
	c.fds, c.order = nil, nil
}
