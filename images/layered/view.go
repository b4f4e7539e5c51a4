package layered

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// Attributes of overlayfs' own.
const (
	attrOpaque   = "trusted.overlay.opaque"
	attrRedirect = "trusted.overlay.redirect"
	attrOrigin   = "trusted.overlay.origin"
)

// ID tells an object of the layers from all others on this machine.
type ID struct{ Dev, Ino uint64 }

// View is an open stack. It holds a descriptor for each layer until Close. Its
// methods may be called from several goroutines.
type View struct {
	layers []int // roots, the top one first
	upper  bool  // the first layer is a board's upper
	index  int   // the directory work/index of the upper; -1: there is none
	// copies are the files of the index by the golden file that they stand for.
	copies map[ID]string
	// touched are golden directories below which a name shows another file than
	// the layer has: a copy.
	touched map[ID]bool
	lost    int // entries of the index that stand for nothing in the layers
	lone    int // those of them that have no other name
}

// Open opens a stack of layers, the bottom one first.
func Open(layers []string) (*View, error) { return open(layers, "") }

// OpenUpper opens a stack of layers, the bottom one first, with the upper of a
// board on it: the directory that holds "upper" and "work".
func OpenUpper(layers []string, dir string) (*View, error) { return open(layers, dir) }

func open(layers []string, upper string) (*View, error) {
	v := &View{index: -1, copies: map[ID]string{}, touched: map[ID]bool{}}
	if err := v.open(layers, upper); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

func (v *View) open(layers []string, upper string) error {
	if upper != "" {
		fd, err := onefs.OpenRoot(filepath.Join(upper, "upper"))
		if err != nil {
			return fmt.Errorf("opening an upper: %w", err)
		}
		v.layers, v.upper = append(v.layers, fd), true
	}
	for i := len(layers) - 1; i >= 0; i-- {
		fd, err := onefs.OpenRoot(layers[i])
		if err != nil {
			return fmt.Errorf("opening a layer: %w", err)
		}
		v.layers = append(v.layers, fd)
	}
	if len(v.layers) == 0 {
		return errors.New("opening a stack of layers: it has none")
	}
	if upper != "" {
		if err := v.readIndex(filepath.Join(upper, "work")); err != nil {
			return fmt.Errorf("reading the index of an upper: %w", err)
		}
	}
	return nil
}

// Close gives up what is open.
func (v *View) Close() {
	for _, fd := range v.layers {
		unix.Close(fd)
	}
	if v.index >= 0 {
		unix.Close(v.index)
	}
	v.layers, v.index = nil, -1
}

// part is one directory of those that a merged directory is made of.
type part struct {
	layer int // position in View.layers
	path  string
	id    ID
}

// Node is one name of the tree.
type Node struct {
	// Path is relative to the root, whose own is "".
	Path string
	// Stat is of the object that shows. Of a directory that is the topmost one.
	Stat unix.Stat_t
	// parts are what a directory is merged of, the top one first.
	parts []part
	// where the object itself is: in a layer, or (indexed) in the index.
	layer   int
	real    string
	indexed bool
}

// IsDir says whether n is a directory.
func (n *Node) IsDir() bool { return n.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular says whether n is a regular file.
func (n *Node) IsRegular() bool { return n.Stat.Mode&unix.S_IFMT == unix.S_IFREG }

// ID is the identity of the object that shows.
func (n *Node) ID() ID { return ID{n.Stat.Dev, n.Stat.Ino} }

// InUpper says whether the object that shows is the board's own: in its upper,
// or in the index.
func (v *View) InUpper(n *Node) bool { return n.indexed || v.upper && n.layer == 0 }

// Indexed says whether the object shows through the index alone: the upper has
// no such name.
func (n *Node) Indexed() bool { return n.indexed }

// UpperPath is where the upper has the directory n; ok is false when it has none.
// The upper's paths are those of the tree: what was renamed lies under its new name.
func (v *View) UpperPath(n *Node) (p string, ok bool) {
	if !v.upper || len(n.parts) == 0 || n.parts[0].layer != 0 {
		return "", false
	}
	return n.parts[0].path, true
}

// Same says that two nodes, of one view or of two, are one object with all that
// is below it: there is nothing to compare.
func Same(a *View, x *Node, b *View, y *Node) bool {
	if !x.IsDir() || !y.IsDir() {
		return x.ID() == y.ID()
	}
	return sameParts(x.parts, y.parts) && !a.isTouched(x) && !b.isTouched(y)
}

// MovedFrom says that the directory x of a is the directory y of b under another
// name: what x is merged of ends with all that y is.
func MovedFrom(x, y *Node) bool {
	n := len(x.parts) - len(y.parts)
	return x.IsDir() && y.IsDir() && n >= 0 && sameParts(x.parts[n:], y.parts)
}

// Parts are the identities of what the directory is merged of, the top one first.
func (n *Node) Parts() []ID {
	out := make([]ID, len(n.parts))
	for i, p := range n.parts {
		out[i] = p.id
	}
	return out
}

func sameParts(a, b []part) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].id != b[i].id {
			return false
		}
	}
	return true
}

func (v *View) isTouched(n *Node) bool {
	for _, p := range n.parts {
		if v.touched[p.id] {
			return true
		}
	}
	return false
}

// Root is the root directory.
func (v *View) Root() (*Node, error) {
	n := &Node{}
	for i := range v.layers {
		fd, err := onefs.OpenDir(v.layers[i], "")
		if err != nil {
			return nil, fmt.Errorf("reading the root of a layer: %w", err)
		}
		st, err := onefs.Fstat(fd)
		opaque := false
		if err == nil && i < len(v.layers)-1 {
			opaque, err = isOpaque(fd)
		}
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("reading the root of a layer: %w", err)
		}
		if i == 0 {
			n.Stat = st
		}
		n.parts = append(n.parts, part{i, "", ID{st.Dev, st.Ino}})
		if opaque {
			break
		}
	}
	return n, nil
}

// Lookup finds a path, which is clean and relative ("" is the root). A symbolic
// link on the way is not followed: what lies behind it is unix.ENOTDIR. What is not
// there is unix.ENOENT.
func (v *View) Lookup(p string) (*Node, error) {
	n, err := v.Root()
	for err == nil && p != "" {
		var name string
		name, p = cut(p)
		n, err = v.Child(n, name)
	}
	return n, err
}

func cut(p string) (first, rest string) {
	for i := 0; i < len(p); i++ {
		if p[i] == '/' {
			return p[:i], p[i+1:]
		}
	}
	return p, ""
}

// Child finds a name in a directory; see Lookup for errors.
func (v *View) Child(dir *Node, name string) (*Node, error) {
	if !dir.IsDir() {
		return nil, unix.ENOTDIR
	}
	d, err := v.openParts(dir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	n, err := d.child(name, 0)
	if err == nil && n == nil {
		err = unix.ENOENT
	}
	return n, err
}

func join(dir, name string) string { return path.Join(dir, name) }
