package images_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/internal/mounttest"
	"rubus/images/internal/onefs"
)

func checkTmpEmpty(t testing.TB, s *images.Store) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(s.Dir(), "tmp"))
	if err != nil || len(list) != 0 {
		t.Errorf("left in tmp: %v, %v", list, err)
	}
	if _, err := os.Lstat(filepath.Join(s.Dir(), "journal")); !os.IsNotExist(err) {
		t.Errorf("the journal is there: %v", err)
	}
}

// A manifest that nobody can read hides which layers it needs: nothing goes.
func TestGCStopsAtDamage(t *testing.T) {
	s := open(t, t.TempDir())
	mustPut(t, s, "lab", "1")
	mustPut(t, s, "bad", "2")
	must(t, os.WriteFile(filepath.Join(s.Dir(), "manifests/bad/1.json"), []byte("{"), 0o600))
	if _, err := s.GC(t.Context(), noUses); err == nil {
		t.Error("GC went on with a damaged manifest")
	}
	if list, err := s.List(); len(list) != 1 || err == nil {
		t.Errorf("list %v, %v", list, err)
	}
	for name, m := range map[string]string{
		"another name":  `{"format":1,"ref":"lab@1","layers":[{"digest":"%064d"}],"boot":"boot"}`,
		"newer format":  `{"format":2,"ref":"bad@1","layers":[{"digest":"%064d"}],"boot":"boot"}`,
		"path in boot":  `{"format":1,"ref":"bad@1","layers":[{"digest":"%064d"}],"boot":"../boot"}`,
		"path in layer": `{"format":1,"ref":"bad@1","layers":[{"digest":"../%062d"}],"boot":"boot"}`,
		"no layer":      `{"format":1,"ref":"bad@1","layers":[],"boot":"boot%.0d"}`,
	} {
		must(t, os.WriteFile(filepath.Join(s.Dir(), "manifests/bad/1.json"), fmt.Appendf(nil, m, 0), 0o600))
		if v, err := s.Resolve(ref("bad@1")); err == nil {
			t.Errorf("%s: resolved to %+v", name, v)
		}
	}
}

// Hold keeps versions while boot resolves, records and mounts one.
func TestHold(t *testing.T) {
	s := open(t, t.TempDir())
	v := mustPut(t, s, "lab", "1")
	release, err := s.Hold(t.Context())
	must(t, err)
	second, err := open(t, s.Dir()).Hold(t.Context()) // shared
	must(t, err)
	second()
	if _, err := s.Resolve(v.Ref); err != nil {
		t.Errorf("resolving while it is held: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Remove(ctx, []imageref.Ref{v.Ref}, noUses); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("removed while it is held: %v", err)
	}
	done := make(chan error)
	var recorded atomic.Bool
	go func() {
		_, err := s.Remove(t.Context(), []imageref.Ref{v.Ref}, func() ([]images.Use, error) {
			if !recorded.Load() {
				return nil, errors.New("asked for uses before the release")
			}
			return []images.Use{{Ref: v.Ref, Who: "board"}}, nil
		})
		done <- err
	}()
	recorded.Store(true)
	release()
	release() // twice is once
	var inUse *images.InUseError
	if err := <-done; !errors.As(err, &inUse) {
		t.Errorf("after the use was recorded: %v", err)
	}
}

// A base that goes during an import is an error, not half a version.
func TestBaseRemovedMeanwhile(t *testing.T) {
	s := open(t, t.TempDir())
	v := mustPut(t, s, "lab", "1")
	_, err := s.Remove(t.Context(), []imageref.Ref{v.Ref}, noUses)
	must(t, err)
	if _, _, err := put(t.Context(), s, "2", images.NewVersion{Name: "lab", Base: &v}); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("commit on a base that is gone: %v", err)
	}
	checkTmpEmpty(t, s)
}

// A mount below a layer that goes survives, and so does the store.
func TestGCLeavesMountsAlone(t *testing.T) {
	s := open(t, t.TempDir())
	v := mustPut(t, s, "lab", "1")
	_, err := s.Remove(t.Context(), []imageref.Ref{v.Ref}, noUses)
	must(t, err)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600))
	root := s.LayerDir(v.Layers[0].Digest)
	must(t, os.Mkdir(filepath.Join(root, "mnt"), 0o755))
	mounttest.Run(t, func() {
		if err := unix.Mount(outside, filepath.Join(root, "mnt"), "", unix.MS_BIND, ""); err != nil {
			t.Errorf("mounting in a layer: %v", err)
			return
		}
		if _, err := s.GC(t.Context(), noUses); !errors.Is(err, onefs.ErrMounted) {
			t.Errorf("GC over a mount: %v", err)
		}
		if again, err := images.Open(s.Dir()); err != nil || again == nil {
			t.Errorf("opening with a mount in tmp: %v", err)
		}
		if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
			t.Errorf("what was mounted lost a file: %v", err)
		}
	})
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Fatal(err)
	}
	checkTmpEmpty(t, open(t, s.Dir())) // the mount ended with its thread
}
