package main

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// op is one thing that a worker of the storm does. Paths are relative to the
// worker's directory.
type op struct {
	N    int    `json:"n"`
	Do   string `json:"do"`
	Path string `json:"path,omitempty"`
	To   string `json:"to,omitempty"`   // rename, link; the text of symlink
	Off  int64  `json:"off,omitempty"`  // write; the size of truncate
	Len  int    `json:"len,omitempty"`  // write
	Mode uint32 `json:"mode,omitempty"` // of what is made; chmod
	Time int64  `json:"time,omitempty"` // utimes: nanoseconds
	Sync bool   `json:"sync,omitempty"` // write: fsync before close
}

// What kinds of objects there are.
const (
	file    = 'f'
	dir     = 'd'
	symlink = 'l'
	fifo    = 'p'
)

// node is an object as it must be.
type node struct {
	kind  rune
	mode  uint32
	links int
	data  []byte           // of a file
	text  string           // of a symbolic link
	kids  map[string]*node // of a directory
	mtime int64            // nanoseconds; 0: whatever it is

	// golden: from the image. An overlay counts its own entry for a copy of such
	// a file (in its index) as a link, from the next mount on.
	golden bool

	// silly: a file that was open lost its name here, so the client's own name
	// for it (.nfs...) may be here still; stuck: it will stay, as the client was
	// told that there was nothing to rename.
	silly, stuck bool
}

// model is what the journal says is there.
type model struct {
	root *node
	// held is the file that the worker keeps open, heldDirs where it lost names
	// since: the client's own name for it is in one of them, whose it was opened
	// by or another, and stays there until it is closed.
	held     *node
	heldDirs []*node
}

func newModel() *model {
	return &model{root: &node{kind: dir, kids: map[string]*node{}}}
}

// find gives the object at a path, or nil.
func (m *model) find(p string) *node {
	n := m.root
	for _, name := range strings.Split(p, "/") {
		if n == nil || n.kids == nil {
			return nil
		}
		n = n.kids[name]
	}
	return n
}

// parent gives the directory of a path, and the name in it.
func (m *model) parent(p string) (*node, string) {
	d := path.Dir(p)
	if d == "." {
		return m.root, p
	}
	return m.find(d), path.Base(p)
}

var errModel = errors.New("the journal makes no sense")

// apply does to the model what an op did.
func (m *model) apply(o *op) error {
	n := m.find(o.Path)
	at, name := m.parent(o.Path)
	if at == nil && o.Path != "" {
		return fmt.Errorf("%w: %+v", errModel, *o)
	}
	switch o.Do {
	case "create", "mkdir", "symlink", "fifo":
		made := &node{kind: map[string]rune{"create": file, "mkdir": dir, "symlink": symlink, "fifo": fifo}[o.Do], mode: o.Mode, links: 1}
		if o.Do == "mkdir" {
			made.kids = map[string]*node{}
		}
		made.text, made.golden = o.To, o.N < 0
		m.drop(at, name)
		at.kids[name] = made
		return nil
	case "heldwrite", "heldsync", "release":
		n = m.held
	}
	if n == nil {
		return fmt.Errorf("%w: %+v", errModel, *o)
	}
	switch o.Do {
	case "write", "heldwrite":
		n.write(o)
	case "truncate":
		n.resize(o.Off)
	case "chmod":
		n.mode = o.Mode
	case "utimes":
		n.mtime = o.Time
	case "unlink", "rmdir":
		m.drop(at, name)
	case "link":
		return m.put(o.To, n, func() { n.links++ })
	case "rename":
		return m.put(o.To, n, func() {
			delete(at.kids, name)
		})
	case "hold":
		m.held, m.heldDirs = n, nil
	case "heldsync":
	case "release":
		m.held, m.heldDirs = nil, nil
	default:
		return fmt.Errorf("%w: %+v", errModel, *o)
	}
	return nil
}

// emptied is the directory that an op removes, or puts another in the place of.
func (m *model) emptied(o *op) *node {
	p := o.Path
	if o.Do == "rename" {
		p = o.To
	} else if o.Do != "rmdir" {
		return nil
	}
	if n := m.find(p); n != nil && n.kind == dir {
		return n
	}
	return nil
}

// put gives n the name p after f was done, in the place of what has it.
func (m *model) put(p string, n *node, f func()) error {
	at, name := m.parent(p)
	if at == nil {
		return fmt.Errorf("%w: nowhere to put %q", errModel, p)
	}
	f()
	m.drop(at, name)
	at.kids[name] = n
	return nil
}

// drop takes a name away.
func (m *model) drop(at *node, name string) {
	n := at.kids[name]
	if n == nil {
		return
	}
	delete(at.kids, name)
	n.links--
	if n == m.held {
		at.silly, m.heldDirs = true, append(m.heldDirs, at)
	}
}

func (n *node) resize(size int64) {
	n.mtime = 0
	if size <= int64(len(n.data)) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
}

func (n *node) write(o *op) {
	if end := o.Off + int64(o.Len); end > int64(len(n.data)) {
		n.resize(end)
	}
	n.mtime = 0
	copy(n.data[o.Off:], o.bytes())
}

// bytes is what a write writes: nothing that another op writes, too.
func (o *op) bytes() []byte {
	b := make([]byte, 0, o.Len+8)
	for len(b) < o.Len {
		b = fmt.Appendf(b, "%d.%d ", o.N, len(b))
	}
	return b[:o.Len]
}

// walk calls f for each object below the root, in no order.
func (m *model) walk(f func(p string, n, at *node)) {
	var below func(prefix string, d *node)
	below = func(prefix string, d *node) {
		for name, n := range d.kids {
			f(prefix+name, n, d)
			if n.kind == dir {
				below(prefix+name+"/", n)
			}
		}
	}
	below("", m.root)
}

// seeds are the ops that make a worker's directory as it is in the image.
func seeds() []op {
	list := []op{
		{Do: "mkdir", Path: "a", Mode: 0o755},
		{Do: "mkdir", Path: "b", Mode: 0o700},
		{Do: "mkdir", Path: "b/c", Mode: 0o755},
		{Do: "mkdir", Path: "empty", Mode: 0o755},
		{Do: "symlink", Path: "a/link", To: "../b"},
		{Do: "fifo", Path: "b/fifo", Mode: 0o644},
	}
	for i, p := range []string{"a/x", "a/y", "b/x", "b/z", "b/c/y", "x", "y", "z"} {
		list = append(list, op{Do: "create", Path: p, Mode: 0o644}, op{Do: "write", Path: p, Len: 300 << i})
	}
	for i := range list {
		list[i].N = -1 - i
	}
	return list
}
