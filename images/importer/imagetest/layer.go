package imagetest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/importer/meter"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// Layer is one that was made.
type Layer struct {
	Dir string
	// Entries are what it holds, by path: a line each, as in "file 0644 0:0 5".
	Entries map[string]string
	// Bytes are its content's, without holes.
	Bytes int64
	Notes []string
}

// Options say how a layer is made; the zero value is good.
type Options struct {
	// Below are the trees of the layers it lies on, the uppermost first.
	Below   []string
	Limits  bounds.Limits
	Devices layer.Devices
}

// Build makes a layer in a directory of its own, which fill fills.
func Build(t testing.TB, o Options, fill func(b *layer.Builder) error) (Layer, error) {
	t.Helper()
	l := Layer{Dir: t.TempDir(), Entries: make(map[string]string)}
	fd, err := onefs.OpenRoot(l.Dir)
	must(t, err)
	defer unix.Close(fd)
	space, err := bounds.New(fd, o.Limits)
	must(t, err)
	below, err := layer.OpenLower(o.Below)
	must(t, err)
	notes := layer.NewNotes()
	b := layer.NewBuilder(t.Context(), fd, new(meter.Meter), space, notes, below)
	defer b.Close()
	b.Devices = o.Devices
	list, bytes, err := b.Finish(fill(b))
	if err != nil {
		return l, err
	}
	for _, e := range list {
		l.Entries[e.Path] = line(e)
	}
	l.Bytes, l.Notes = bytes, notes.Lines()
	return l, nil
}

func line(e treesum.Entry) string {
	kind := map[byte]string{
		treesum.File: "file", treesum.Dir: "dir", treesum.Symlink: "symlink", treesum.Hardlink: "hardlink",
		treesum.Char: "char", treesum.Block: "block", treesum.Fifo: "fifo",
	}[e.Type]
	if e.Type == treesum.Hardlink {
		return kind + " to " + e.Target
	}
	s := fmt.Sprintf("%s %04o %d:%d", kind, e.Mode, e.UID, e.GID)
	switch e.Type {
	case treesum.File:
		s += fmt.Sprintf(" %d", e.Size)
	case treesum.Symlink:
		s += " to " + e.Target
	case treesum.Char, treesum.Block:
		s += fmt.Sprintf(" %d,%d", e.Major, e.Minor)
	}
	if e.Xattrs[layer.XattrOpaque] != "" {
		s += " opaque"
	}
	return s
}
