package upper_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/images/layered"
	"rubus/images/treediff"
	"rubus/images/upper"
	"rubus/overlay"
	"rubus/overlay/overlaytest"
)

// noLinks is a listing with hard links as files of their own, and without the times of
// directories: a time alone is no change of a directory.
func noLinks(sum string) string {
	files := map[string]string{}
	var out []string
	for line := range strings.Lines(sum) {
		f := strings.Fields(line)
		if f[0] != "h" {
			name := map[string]int{"f": 7, "c": 6, "b": 6}[f[0]]
			if name == 0 {
				name = 5
			}
			files[f[name]] = line
		}
	}
	for line := range strings.Lines(sum) {
		f := strings.Fields(line)
		if f[0] == "d" {
			line = strings.Replace(line, f[4], "-", 1)
		}
		if f[0] == "h" {
			line = strings.Replace(files[f[2]], " "+f[2], " "+f[1], 1)
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// TestLayerOfAnUpper: what a board wrote, as a layer over its base, shows the same:
// in a view, and mounted below a new upper.
func TestLayerOfAnUpper(t *testing.T) {
	for seed := range uint64(8) {
		s := overlaytest.New(t)
		spec := s.NewUpper()
		r := s.Scramble(rand.New(rand.NewPCG(seed, 4)), spec, s.Mount(spec), 50)
		r = s.Remount(spec, r)
		want := noLinks(s.Sum(r.Target))
		d := delta(t, s, spec.UpperDir)
		layer := filepath.Join(s.Dir, "l", "2")
		must(t, os.Mkdir(layer, 0o700))
		if _, err := upper.Build(t.Context(), layer, d, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s.Unmount(r)
		s.Layers = append(s.Layers, layer)
		s.Rebase()
		v, err := layered.Open(s.Layers)
		must(t, err)
		defer v.Close()
		if d := cmp.Diff(want, noLinks(s.SumView(v))); d != "" {
			t.Fatalf("seed %d (-board +layer):\n%s", seed, d)
		}
		mounted := s.Mount(s.NewUpper())
		if d := cmp.Diff(want, noLinks(s.Sum(mounted.Target))); d != "" {
			t.Fatalf("seed %d (-board +mounted layer):\n%s", seed, d)
		}
	}
}

// delta is all that a board changed.
func delta(t *testing.T, s *overlaytest.Stand, dir string) upper.Delta {
	t.Helper()
	base, err := layered.Open(s.Layers)
	must(t, err)
	t.Cleanup(base.Close)
	tree, err := layered.OpenUpper(s.Layers, dir)
	must(t, err)
	t.Cleanup(tree.Close)
	changes, err := treediff.Plain(t.Context(), base, tree)
	must(t, err)
	return upper.Delta{Base: base, Was: base, Tree: tree, Changes: changes}
}

// TestLinksOfTheIndexAlone: a golden file with three names that was written to by its handle
// has one link, in the index, until the next mount. It has three names in whatever is made of it.
func TestLinksOfTheIndexAlone(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.WriteByHandle(spec, s.Mount(spec), "d1/hard", "written")
	want := s.Sum(r.Target)
	if !strings.Contains(want, "h d2/hard3 d1/e0/hard2\n") {
		t.Fatalf("the root has no hard links:\n%s", want)
	}
	built := s.NewUpper()
	_, err := upper.Build(t.Context(), filepath.Join(built.UpperDir, "upper"), delta(t, s, spec.UpperDir), nil)
	must(t, err)
	for what, made := range map[string]overlay.Spec{"copy": copied(s, spec), "build": built} {
		if d := cmp.Diff(want, s.Sum(s.Mount(made).Target)); d != "" {
			t.Errorf("%s (-root +made):\n%s", what, d)
		}
	}
	tree, err := upper.OpenTree(s.Layers, spec.UpperDir)
	must(t, err)
	defer tree.Close()
	links := map[string]string{}
	must(t, tree.Walk(t.Context(), func(o *upper.Object) error {
		if strings.Contains(o.Path, "hard") {
			links[o.Path] = o.Link
		}
		return nil
	}))
	if d := cmp.Diff(map[string]string{"d1/e0/hard2": "", "d1/hard": "d1/e0/hard2", "d2/hard3": "d1/e0/hard2"}, links); d != "" {
		t.Errorf("walked (-want +got):\n%s", d)
	}
}

// TestSomeChanges: only the changes that are wanted come to be, with hard links among
// them and content of their own.
func TestSomeChanges(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.Mount(spec)
	at := func(p string) string { return filepath.Join(r.Target, p) }
	must(t, os.WriteFile(at("d1/hard"), []byte("linked"), 0o644))
	must(t, os.WriteFile(at("d2/g2"), []byte("unwanted"), 0o644))
	must(t, os.WriteFile(at("d2/g3"), []byte("to be replaced"), 0o640))
	must(t, os.Remove(at("d3/g2")))
	d := delta(t, s, spec.UpperDir)
	d.Changes = slices.DeleteFunc(d.Changes, func(c treediff.Change) bool { return c.Path == "d2/g2" })
	d.Content = map[string][]byte{"d2/g3": []byte("replaced")}
	next := s.NewUpper()
	_, err := upper.Build(t.Context(), filepath.Join(next.UpperDir, "upper"), d, nil)
	must(t, err)
	n := s.Mount(next)
	for p, want := range map[string]string{"d1/hard": "linked", "d1/e0/hard2": "linked", "d2/g2": strings.Repeat("g", 200), "d2/g3": "replaced"} {
		if b, err := os.ReadFile(filepath.Join(n.Target, p)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", p, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(n.Target, "d3/g2")); !os.IsNotExist(err) {
		t.Errorf("what was removed: %v", err)
	}
	a, err := os.Stat(filepath.Join(n.Target, "d1/hard"))
	must(t, err)
	b, err := os.Stat(filepath.Join(n.Target, "d2/hard3"))
	must(t, err)
	if !os.SameFile(a, b) {
		t.Error("hard links came apart")
	}
}
