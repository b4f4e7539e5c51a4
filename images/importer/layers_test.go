package importer_test

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"rubus/images/importer"
	"rubus/images/importer/imagetest"
	"rubus/images/layered"
)

// FuzzLayers stacks layers of an OCI image with any names, types and whiteouts, each line of
// text one entry: "dir/", "file", "link>target" and ".wh.name"; an empty line begins the next
// layer. It must end, and what the layers show together is what the specification says.
func FuzzLayers(f *testing.F) {
	f.Add("etc/\netc/gone\netc/kept\n\netc/.wh.gone\netc/new")
	f.Add("old/\nold/hidden\nnew/\nnew/hidden\n\nold/fresh\nold/.wh..wh..opq\n.wh.new\nnew/fresh")
	f.Add("a/b/c/d\n\na/b/.wh..wh..opq\n\na/b/c/e\n\na/.wh.b\n\na/b/f")
	f.Add("a/b\n\n.wh.a\na/c\n\na/.wh.b\na/.wh.c\na/.wh.d")
	f.Add("a/b/c\n\n.wh.a\na/.wh.b\na/b/.wh.c")
	f.Add("a\n\na/\na/b\n\n.wh.a\na")
	f.Add("a/\na/x\n\na\n\na/\na/y")
	f.Add("usr/bin/\nbin>usr/bin\nusr/bin/sh\n\nbin/tool\n\nbin/.wh.sh")
	f.Add("a\n\n0/.wh..wh..opq\na/.wh..wh..opq")
	f.Add("out>/\n\nout/x\n\nout/.wh.etc")
	f.Add("../x\n\n../.wh.y\n\n.wh..\n.wh.\n.wh..wh.aufs\n.wh..wh..opq")
	store := newFuzzStore(f)
	f.Fuzz(func(t *testing.T, text string) {
		want, sound := tree{}, true
		var streams []importer.Stream
		for _, part := range strings.Split(text, "\n\n") {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			l, ok := writeEntries(w, part)
			if !ok {
				return
			}
			sound = sound && l.sound
			if sound {
				want = want.with(l)
			}
			streams = append(streams, importer.Stream{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }})
		}
		v, _, err := importer.ImportStreams(t.Context(), store, "lab", "test", "container image", streams, importer.Options{MaxBytes: 1 << 20, MaxSize: 8 << 20})
		if err != nil {
			// overlayfs mounts no directory twice in a stack.
			if sound && len(streams) < 8 && len(want) > 0 && !strings.Contains(err.Error(), "in the stack twice") {
				t.Errorf("%q is refused: %v", text, err)
			}
			return
		}
		dirs := store.LayerDirs(v)
		slices.Reverse(dirs)
		view, err := layered.Open(dirs)
		must(t, err)
		defer view.Close()
		if got := shown(t, view); sound && !maps.Equal(got, want) {
			t.Errorf("%q shows\n%v, want\n%v", text, got, want)
		}
	})
}

// tree is what a stack shows: paths, and whether they are directories.
type tree map[string]bool

// entries are what one layer says.
type entries struct {
	files          tree
	hidden, opaque []string
	// sound says that the model knows what it means: no links, no name twice with
	// another type, none that climbs.
	sound bool
}

func writeEntries(w *tar.Writer, text string) (entries, bool) {
	l := entries{files: tree{}, sound: true}
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		name, target, isLink := strings.Cut(line, ">")
		h := tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: target, Mode: 0o755, ModTime: imagetest.Time(), Format: tar.FormatPAX}
		isDir := strings.HasSuffix(name, "/")
		switch {
		case isLink:
			h.Typeflag = tar.TypeSymlink
		case isDir:
			h.Typeflag = tar.TypeDir
		}
		if w.WriteHeader(&h) != nil {
			return l, false
		}
		l.add(strings.TrimSuffix(name, "/"), isDir, isLink)
	}
	// Whether a directory is made to be empty is nowhere said.
	for _, p := range l.opaque {
		l.sound = l.sound && l.files[p]
	}
	// What is hidden in a file that the layer has itself means nothing.
	for _, p := range slices.Concat(l.hidden, l.opaque) {
		for ; p != "."; p = path.Dir(p) {
			if isDir, there := l.files[p]; there && !isDir && !slices.Contains(l.hidden, p) {
				l.sound = false
			}
		}
	}
	return l, w.Close() == nil
}

func (l *entries) add(name string, isDir, isLink bool) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	parts := strings.Split(name, "/")
	white := strings.HasPrefix(base, ".wh.")
	if isLink || path.Clean(name) != name || slices.Contains(parts, "..") || name == "." || strings.HasPrefix(name, "/") ||
		white && (isDir || base == ".wh." || base == ".wh.." || base == ".wh..." || base != ".wh..wh..opq" && strings.HasPrefix(base, ".wh..wh.")) ||
		strings.Contains(dir, ".wh.") || strings.Contains(name, "\x00") || name == ".wh..wh..opq" {
		l.sound = false
		return
	}
	for i := range parts[:len(parts)-1] {
		p := strings.Join(parts[:i+1], "/")
		if is, there := l.files[p]; there && !is {
			l.sound = false
			return
		}
		if !white {
			l.files[p] = true
		}
	}
	switch {
	case base == ".wh..wh..opq":
		l.opaque = append(l.opaque, dir)
	case white:
		l.hidden = append(l.hidden, path.Join(dir, strings.TrimPrefix(base, ".wh.")))
	default:
		if is, there := l.files[name]; there && is != isDir {
			l.sound = false
		}
		l.files[name] = isDir
	}
}

// with is the stack with one more layer on it: layer.md of the OCI image specification. What a
// layer hides is of the layers below; its own files stay, whichever entry comes first.
func (t tree) with(l entries) tree {
	out := tree{}
	for p, isDir := range t {
		gone := false
		for _, h := range l.hidden {
			gone = gone || p == h || strings.HasPrefix(p, h+"/")
		}
		for _, o := range l.opaque {
			gone = gone || strings.HasPrefix(p, o+"/")
		}
		for q, is := range l.files { // a file where a directory was, or the other way round
			gone = gone || !is && strings.HasPrefix(p, q+"/") || is && !isDir && p == q
		}
		if !gone {
			out[p] = isDir
		}
	}
	maps.Copy(out, l.files)
	return out
}

func shown(t *testing.T, v *layered.View) tree {
	t.Helper()
	root, err := v.Root()
	must(t, err)
	out := tree{}
	var walk func(n *layered.Node, p string)
	walk = func(n *layered.Node, p string) {
		list, err := v.List(n)
		must(t, err)
		for _, c := range list {
			full := path.Join(p, path.Base(c.Path))
			out[full] = c.IsDir()
			if c.IsDir() {
				walk(c, full)
			}
		}
	}
	walk(root, "")
	return out
}
