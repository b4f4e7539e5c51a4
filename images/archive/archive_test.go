package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rubus/images/archive"
	"rubus/images/upper"
	"rubus/overlay"
	"rubus/overlay/overlaytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// elsewhere is a stand whose layers are copies on another file system.
func elsewhere(t *testing.T, s *overlaytest.Stand) *overlaytest.Stand {
	t.Helper()
	o := overlaytest.New(t)
	dir := t.TempDir()
	must(t, unix.Mount("elsewhere", dir, "tmpfs", 0, "size=64m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if out, err := exec.Command("cp", "-a", filepath.Join(s.Dir, "l"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.Dir, o.Uppers = dir, overlay.UppersOf(filepath.Join(dir, "devices"), s.Uppers.Serial)
	for i := range o.Layers {
		o.Layers[i] = filepath.Join(dir, "l", filepath.Base(s.Layers[i]))
	}
	o.Rebase()
	return o
}

// backup is one tree of a board as a stream.
func backup(t *testing.T, s *overlaytest.Stand, spec overlay.Spec, since []byte, spool *archive.Spool) []byte {
	t.Helper()
	var out bytes.Buffer
	h := archive.Head{ID: archive.NewID(), Made: time.Now()}
	var old archive.List
	if since != nil {
		r, err := archive.NewLister(bytes.NewReader(since))
		must(t, err)
		h.Since = r.Head.ID
		_, err = r.Next()
		must(t, err)
		old, err = r.List()
		must(t, err)
	}
	w, err := archive.NewWriter(&out, h)
	must(t, err)
	tree, err := upper.OpenTree(s.Layers, spec.UpperDir)
	must(t, err)
	defer tree.Close()
	k, err := archive.Take(t.Context(), tree, string(spec.UpperID), old, spool, time.Now().Add(time.Hour), nil)
	must(t, err)
	defer k.Close()
	must(t, w.Tree(t.Context(), "boards/x/root", k))
	must(t, w.Close())
	return out.Bytes()
}

// extract makes an upper of a stream.
func extract(t *testing.T, s *overlaytest.Stand, stream []byte, before string) (overlay.Spec, error) {
	t.Helper()
	spec := s.NewUpper()
	to := filepath.Join(spec.UpperDir, "upper")
	return spec, read(t.Context(), stream, to, before)
}

func read(ctx context.Context, stream []byte, to, before string) error {
	r, err := archive.NewReader(bytes.NewReader(stream))
	if err != nil {
		return err
	}
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.IsTree {
			if _, err := r.Extract(ctx, to, before, nil); err != nil {
				return err
			}
		}
	}
}

// TestSameTreeElsewhere: whatever a board did, a mount on another file system shows it: of
// a full backup and of each that goes on from it, hard links included.
func TestSameTreeElsewhere(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s := overlaytest.New(t)
		o := elsewhere(t, s)
		spec := s.NewUpper()
		r := s.Mount(spec)
		var last []byte
		before := ""
		for round := range 4 {
			r = s.Scramble(rng, spec, r, 25)
			r = s.Remount(spec, r)
			// Each second one is read where it lies, the others copied first.
			var spool *archive.Spool
			if round%2 == 0 {
				spool = &archive.Spool{Dir: s.Dir}
			}
			want := s.Sum(r.Target)
			last = backup(t, s, spec, last, spool)
			again := backup(t, s, spec, last, spool)
			if len(again) > 12<<10 {
				t.Errorf("seed %d: %d bytes for a backup of what did not change", seed, len(again))
			}
			got, err := extract(t, o, last, before)
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			// What is mounted is a copy: the extracted tree is what the next one goes on from.
			next := o.NewUpper()
			_, err = upper.Copy(t.Context(), o.Layers, got.UpperDir, filepath.Join(next.UpperDir, "upper"), nil)
			must(t, err)
			now := o.Mount(next)
			if d := cmp.Diff(want, o.Sum(now.Target)); d != "" {
				t.Fatalf("seed %d, round %d (-board +backup):\n%s", seed, round, d)
			}
			o.Unmount(now)
			before = filepath.Join(got.UpperDir, "upper")
		}
	}
}

// TestForeignLayers: an upper whose index alone tells of names is not read over copies of its
// layers, where nobody can tell which names they are.
func TestForeignLayers(t *testing.T) {
	s := overlaytest.New(t)
	o := elsewhere(t, s)
	for name, write := range map[string]func(overlay.Spec, overlay.Root) overlay.Root{
		"another name": func(_ overlay.Spec, r overlay.Root) overlay.Root {
			must(t, os.WriteFile(filepath.Join(r.Target, "d1/hard"), []byte("x"), 0o644))
			return r
		},
		"by handle": func(spec overlay.Spec, r overlay.Root) overlay.Root { return s.WriteByHandle(spec, r, "d2/g2", "x") },
		"": func(_ overlay.Spec, r overlay.Root) overlay.Root {
			must(t, os.WriteFile(filepath.Join(r.Target, "d2/g3"), []byte("x"), 0o644))
			return r
		},
	} {
		spec := s.NewUpper()
		s.Unmount(write(spec, s.Mount(spec)))
		tree, err := upper.OpenTree(o.Layers, spec.UpperDir)
		if err == nil {
			tree.Close()
		}
		if errors.Is(err, upper.ErrForeign) != (name != "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
