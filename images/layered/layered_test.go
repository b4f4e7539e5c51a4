package layered_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/images/layered"
	"rubus/overlay"
	"rubus/overlay/overlaytest"
)

func view(t *testing.T, s *overlaytest.Stand, spec overlay.Spec) *layered.View {
	t.Helper()
	v, err := layered.OpenUpper(s.Layers, spec.UpperDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// TestAsTheKernel: a view shows what a mount of the same shows, whatever a board did.
func TestAsTheKernel(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := overlaytest.New(t)
		spec := s.NewUpper()
		r := s.Mount(spec)
		before, err := layered.Open(s.Layers)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		// The root's own time is that of the upper.
		_, mount, _ := strings.Cut(s.Sum(r.Target), "\n")
		_, layers, _ := strings.Cut(s.SumView(before), "\n")
		if d := cmp.Diff(mount, layers); d != "" {
			t.Fatalf("layers alone (-mount +view):\n%s", d)
		}
		for range 3 {
			r = s.Scramble(rng, spec, r, 25)
			// The kernel keeps the names of a file that was written by its handle
			// apart until it looks them up anew.
			r = s.Remount(spec, r)
			if d := cmp.Diff(s.Sum(r.Target), s.SumView(view(t, s, spec))); d != "" {
				t.Fatalf("seed %d (-mount +view):\n%s", seed, d)
			}
		}
	}
}

// TestAliases: what was written to one name of a golden file, or to none, shows
// under all its names.
func TestAliases(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.Mount(spec)
	if err := os.WriteFile(filepath.Join(r.Target, "d1/hard"), []byte("written"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.WriteByHandle(spec, r, "d2/g2", "handle")
	v := view(t, s, spec)
	for _, p := range []string{"d1/hard", "d1/e0/hard2", "d2/hard3"} {
		if b, err := v.ReadFile(p, 100); err != nil || string(b) != "written" {
			t.Errorf("%s is %q, %v", p, b, err)
		}
	}
	if b, err := v.ReadFile("d2/g2", 1000); err != nil || string(b[:6]) != "handle" {
		t.Errorf("written by handle: %q, %v", b, err)
	}
	if n, err := v.Lookup("d2/g2"); err != nil || !n.Indexed() || !v.InUpper(n) {
		t.Errorf("written by handle: %+v, %v", n, err)
	}
}

// TestConfined: no path and no attribute leads out of the layers.
func TestConfined(t *testing.T) {
	s := overlaytest.New(t)
	v, err := layered.Open(s.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, p := range []string{"..", "d0/../..", "link/x", "d1/./g1", "/etc", "none"} {
		if n, err := v.Lookup(p); err == nil {
			t.Errorf("Lookup(%q) = %q", p, n.Path)
		}
	}
}
