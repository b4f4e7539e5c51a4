package tarball

import (
	"fmt"
	"path"
	"strings"

	"rubus/images/importer/layer"
	"rubus/images/treesum"
)

// The OCI image specification's layer.md, "Whiteouts": a name that hides one
// below, and one that hides all of a directory.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // aufs' own notes
)

// whiteouts are what a layer hides, applied when all of it is there: what it
// has itself is not hidden, whichever comes first.
type whiteouts struct {
	hidden map[string]*treesum.Entry
	opaque []string
}

// entry takes a whiteout and says whether it was one.
func (w *whiteouts) entry(p string, e *treesum.Entry) bool {
	dir, name := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case name == whiteoutOpaque:
		w.opaque = append(w.opaque, dir)
	case strings.HasPrefix(name, whiteoutMeta):
	case strings.HasPrefix(name, whiteoutPrefix) && name != whiteoutPrefix:
		w.hidden[path.Join(dir, strings.TrimPrefix(name, whiteoutPrefix))] = e
	default:
		return false
	}
	return true
}

// gone says that a directory above p is hidden, and p with it.
func (w *whiteouts) gone(p string) bool {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if w.hidden[dir] != nil {
			return true
		}
	}
	return false
}

// apply writes them as overlayfs has them.
func (w *whiteouts) apply(b *layer.Builder) error {
	if len(b.Lower) == 0 {
		return nil // there is nothing to hide
	}
	for p, e := range w.hidden {
		if w.gone(p) {
			continue
		}
		if n := b.Root.Find(p); n != nil {
			if n.IsDir() {
				makeOpaque(n)
			}
			continue
		}
		// The parent may be hidden itself: then there is nothing to do, and no directory to make.
		if below, err := b.Lower.Entry(p); err != nil || below == nil {
			if err != nil {
				return err
			}
			continue
		}
		dir, name, err := b.Parent(p, e.Sec, e.Nsec)
		if err != nil {
			return err
		}
		e.Type, e.Size, e.Target, e.Major, e.Minor, e.Xattrs = treesum.Char, 0, "", 0, 0, nil
		if err := b.Special(dir, name, e); err != nil {
			return err
		}
	}
	for _, p := range w.opaque {
		n := b.Root.Find(p)
		if n == nil && w.gone(p) {
			continue
		}
		if n == nil || !n.IsDir() || p == "" {
			// An opaque directory that the layer does not have: it is emptied.
			if p == "" {
				return fmt.Errorf("it hides all layers below it, which rubus can't: squash the image")
			}
			dir, name, err := b.Parent(p, 0, 0)
			if err != nil {
				return err
			}
			if n, err = b.Mkdir(dir, name, b.Implied(dir, name, 0, 0)); err != nil {
				return err
			}
		}
		makeOpaque(n)
	}
	return nil
}

func makeOpaque(n *layer.Node) {
	if n.Inode.Xattrs == nil {
		n.Inode.Xattrs = make(map[string]string)
	}
	n.Inode.Xattrs[layer.XattrOpaque] = "y"
}
