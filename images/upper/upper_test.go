package upper_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rubus/images/upper"
	"rubus/overlay"
	"rubus/overlay/overlaytest"
)

// copied makes a new upper that is a copy of another.
func copied(s *overlaytest.Stand, from overlay.Spec) overlay.Spec {
	s.Helper()
	to := s.NewUpper()
	if _, err := upper.Copy(s.Context(), s.Layers, from.UpperDir, filepath.Join(to.UpperDir, "upper"), nil); err != nil {
		s.Fatal(err)
	}
	return to
}

// TestSameTree: a mount of a copy shows what the mount of the first shows, hard
// links included, whatever the board did; also a copy of a copy that was written to.
func TestSameTree(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := overlaytest.New(t)
		spec := s.NewUpper()
		for range 3 {
			r := s.Scramble(rng, spec, s.Mount(spec), 25)
			r = s.Remount(spec, r)
			want := s.Sum(r.Target)
			next := copied(s, spec)
			now := s.Mount(next)
			if d := cmp.Diff(want, s.Sum(now.Target)); d != "" {
				t.Fatalf("seed %d (-first +copy):\n%s", seed, d)
			}
			// The kernel agrees with itself after another mount, too.
			now = s.Remount(next, now)
			if d := cmp.Diff(want, s.Sum(now.Target)); d != "" {
				t.Fatalf("seed %d, mounted again (-first +copy):\n%s", seed, d)
			}
			if d := cmp.Diff(want, s.Sum(r.Target)); d != "" {
				t.Fatalf("seed %d: copying changed the first:\n%s", seed, d)
			}
			s.Unmount(r)
			s.Unmount(now)
			spec = next
		}
	}
}

// TestAliasesAreLinks: the names that the index alone told of are hard links in the
// copy, and stay so when one of them is written.
func TestAliasesAreLinks(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.Mount(spec)
	at := func(r overlay.Root, p string) string { return filepath.Join(r.Target, p) }
	must(t, os.WriteFile(at(r, "d1/hard"), []byte("written"), 0o644))
	must(t, os.Rename(at(r, "d1/e0"), at(r, "moved"))) // with d1/e0/hard2
	r = s.WriteByHandle(spec, r, "d2/g2", "handle")
	s.Unmount(r)
	r = s.Mount(copied(s, spec))
	must(t, os.WriteFile(at(r, "moved/hard2"), []byte("again"), 0o644))
	for _, p := range []string{"d1/hard", "moved/hard2", "d2/hard3"} {
		if b, err := os.ReadFile(at(r, p)); err != nil || string(b) != "again" {
			t.Errorf("%s is %q, %v", p, b, err)
		}
	}
	if b, err := os.ReadFile(at(r, "d2/g2")); err != nil || string(b[:6]) != "handle" {
		t.Errorf("written by handle: %q, %v", b, err)
	}
	if x, err := unix.Lgetxattr(filepath.Join(s.Uppers.Path(r.UpperID), "upper/d1/hard"), "trusted.overlay.nlink", nil); err == nil && x == 0 {
		t.Error("the copy has a link count of the first's index")
	}
}

// TestHoles: what is sparse stays sparse.
func TestHoles(t *testing.T) {
	s := overlaytest.New(t)
	spec := s.NewUpper()
	r := s.Mount(spec)
	f, err := os.Create(filepath.Join(r.Target, "big"))
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 1<<30)
	must(t, errors.Join(err, f.Close()))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(copied(s, spec).UpperDir, "upper/big"), &st))
	if st.Size != 1<<30+1 || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy has %d bytes in %d blocks", st.Size, st.Blocks)
	}
}

func TestEnds(t *testing.T) {
	s := overlaytest.New(t)
	from, to := s.NewUpper(), s.NewUpper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Mount(from)
	must(t, os.Mkdir(filepath.Join(from.Target, "d"), 0o755))
	if _, err := upper.Copy(ctx, s.Layers, from.UpperDir, filepath.Join(to.UpperDir, "upper"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
	if _, err := upper.Copy(t.Context(), s.Layers, filepath.Join(s.Dir, "none"), to.UpperDir, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without an upper: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
