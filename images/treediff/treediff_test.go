package treediff_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/images/layered"
	"rubus/images/treediff"
	"rubus/overlay/overlaytest"
)

func open(t *testing.T, layers []string, upper string) *layered.View {
	t.Helper()
	v, err := layered.Open(layers)
	if upper != "" {
		v, err = layered.OpenUpper(layers, upper)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func compare(t *testing.T, a, b *layered.View) []treediff.Change {
	t.Helper()
	out, err := treediff.Compare(t.Context(), a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names(t *testing.T, v *layered.View) map[string]*layered.Node {
	t.Helper()
	out := map[string]*layered.Node{}
	root, err := v.Root()
	if err == nil {
		err = treediff.Walk(t.Context(), v, root, func(n *layered.Node) error {
			out[n.Path] = n
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplay makes the tree after of the tree before and the changes, whatever a
// board did.
func TestReplay(t *testing.T) {
	kinds := map[treediff.Kind]int{}
	for seed := range uint64(15) {
		s := overlaytest.New(t)
		spec := s.NewUpper()
		r := s.Scramble(rand.New(rand.NewPCG(seed, 2)), spec, s.Mount(spec), 40)
		s.Remount(spec, r)
		before, after := open(t, s.Layers, ""), open(t, s.Layers, spec.UpperDir)
		changes := compare(t, before, after)
		from := map[string]string{} // path before -> path after
		changed := map[string]bool{}
		got := map[string]*layered.Node{}
		gone := map[string]bool{}
		for _, c := range changes {
			kinds[c.Kind]++
			switch c.Kind {
			case treediff.Added:
				got[c.Path] = nil
			case treediff.Removed:
				gone[c.Path] = true
			case treediff.Renamed:
				from[c.From] = c.Path
				changed[c.Path] = len(c.What) > 0
			default:
				changed[c.Path] = true
			}
		}
		for p, n := range names(t, before) {
			if gone[p] {
				continue
			}
			to := p
			for at := p; at != ""; at, _ = filepath.Split(strings.TrimSuffix(at, "/")) {
				if now, ok := from[strings.TrimSuffix(at, "/")]; ok {
					to = now + strings.TrimPrefix(p, strings.TrimSuffix(at, "/"))
					break
				}
			}
			if _, twice := got[to]; twice {
				t.Errorf("seed %d: %q is told of twice", seed, to)
			}
			got[to] = n
		}
		want := names(t, after)
		if d := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); d != "" {
			t.Fatalf("seed %d: names (-want +replayed):\n%s", seed, d)
		}
		for p, n := range want {
			old := got[p]
			if old == nil || changed[p] || n.IsDir() && old.IsDir() {
				continue
			}
			if n.Stat.Mode != old.Stat.Mode || n.Stat.Uid != old.Stat.Uid || n.Stat.Size != old.Stat.Size || n.Stat.Mtim != old.Stat.Mtim {
				t.Errorf("seed %d: %q differs, and is not told of", seed, p)
			}
		}
	}
	for _, k := range []treediff.Kind{treediff.Added, treediff.Removed, treediff.Changed, treediff.Metadata, treediff.Renamed} {
		if kinds[k] < 5 {
			t.Errorf("%d changes of kind %s: this test shows nothing of them", kinds[k], k)
		}
	}
}

func TestKinds(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.Mount(spec)
	at := func(p string) string { return filepath.Join(r.Target, p) }
	for _, err := range []error{
		os.WriteFile(at("new"), []byte("12345"), 0o644),
		os.WriteFile(at("d1/e1/f"), []byte("other"), 0o644),
		os.Chmod(at("suid"), 0o755),
		os.Remove(at("d2/g3")),
		os.Rename(at("d0/e3"), at("moved")),
		os.Remove(at("moved/f")),
		os.Rename(at("d0/g2"), at("g2moved")),
		os.Remove(at("link")),
		os.Symlink("elsewhere", at("link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, c := range compare(t, open(t, s.Layers, ""), open(t, s.Layers, spec.UpperDir)) {
		got = append(got, strings.Join([]string{string(c.Kind), c.Type, c.Path, c.From, strings.Join(c.What, ",")}, " "))
	}
	want := []string{
		"removed file d0/e3/f  ",
		"changed file d1/e1/f  content,time",
		"removed file d2/g3  ",
		"renamed file g2moved d0/g2 ",
		"changed symlink link  content,time",
		"renamed directory moved d0/e3 ",
		"added file new  ",
		"metadata file suid  mode",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if c := compare(t, open(t, s.Layers, ""), open(t, s.Layers, "")); len(c) > 0 {
		t.Errorf("a tree differs from itself: %+v", c)
	}
	if c := compare(t, open(t, s.Layers[:1], ""), open(t, s.Layers, "")); len(c) != 5 {
		t.Errorf("two images that share a layer: %+v", c)
	}
}
