package images_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/treesum"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *images.Store {
	t.Helper()
	s, err := images.Open(dir)
	must(t, err)
	return s
}

// put makes a version with one file of this content.
func put(ctx context.Context, s *images.Store, content string, nv images.NewVersion) (images.Version, bool, error) {
	b, err := built(ctx, s, content)
	if err != nil {
		return images.Version{}, false, err
	}
	defer b.Pending.Abort() //nolint:errcheck // nothing to be done about it here
	if nv.Boot == "" {
		nv.Boot = images.BootPlain
	}
	return b.Pending.Commit(ctx, nv, b.Entries, b.Bytes)
}

// built is a layer of one file that no version names yet.
func built(ctx context.Context, s *images.Store, content string) (images.Built, error) {
	p, err := s.Begin(ctx)
	if err != nil {
		return images.Built{}, err
	}
	fd, err := unix.Openat(p.Tree(), "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != nil {
		return images.Built{}, errors.Join(err, p.Abort())
	}
	_, err = unix.Write(fd, []byte(content))
	ts := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	err = errors.Join(err, unix.Close(fd), unix.UtimesNanoAt(p.Tree(), "file", ts, 0), unix.UtimesNanoAt(p.Tree(), ".", ts, 0))
	if err != nil {
		return images.Built{}, errors.Join(err, p.Abort())
	}
	entries, err := treesum.Tree(ctx, p.Tree(), nil)
	if err != nil {
		return images.Built{}, errors.Join(err, p.Abort())
	}
	return images.Built{Pending: p, Entries: entries, Bytes: int64(len(content))}, nil
}

func mustPut(t testing.TB, s *images.Store, name, content string) images.Version {
	t.Helper()
	v, _, err := put(t.Context(), s, content, images.NewVersion{Name: name})
	must(t, err)
	return v
}

func ref(s string) imageref.Ref {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

func noUses() ([]images.Use, error) { return nil, nil }

func uses(u ...images.Use) images.UsesFunc {
	return func() ([]images.Use, error) { return u, nil }
}

func TestVersionsAndTags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state/images")
	s := open(t, dir)
	s.Now = func() time.Time { return time.Unix(1700000000, 0) }
	v1, v2 := mustPut(t, s, "lab", "one"), mustPut(t, s, "lab", "two")
	if v1.Ref != ref("lab@1") || v2.Ref != ref("lab@2") || v1.Layers[0].Files != 1 {
		t.Fatalf("versions %+v, %+v", v1, v2)
	}
	// Another process sees the same.
	s2 := open(t, dir)
	got, err := s2.Resolve(ref("lab"))
	must(t, err)
	if got.Ref != v2.Ref || !got.Created.Equal(s.Now()) || !slices.Equal(got.Layers, v2.Layers) {
		t.Errorf("lab is %+v, want %+v", got, v2)
	}
	for range 2 { // safe to repeat
		_, err = s2.Tag(t.Context(), "lab", 1)
		must(t, err)
	}
	if got, err = s.Resolve(ref("lab")); err != nil || got.Ref != v1.Ref {
		t.Errorf("after the tag moved: %v, %v", got.Ref, err)
	}
	_, err = s.Tag(t.Context(), "lab", 7)
	if !errors.Is(err, images.ErrNotFound) {
		t.Errorf("tag of no version: %v", err)
	}
	v3, _, err := put(t.Context(), s, "three", images.NewVersion{Name: "lab", Base: &v1, NoTag: true})
	must(t, err)
	if len(v3.Layers) != 2 || v3.Layers[0] != v1.Layers[0] {
		t.Errorf("stacked: %+v", v3)
	}
	if tags, err := s.Tags(); err != nil || tags["lab"] != 1 {
		t.Errorf("tags %v, %v", tags, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 3 {
		t.Errorf("list %v, %v", list, err)
	}
	b, err := os.ReadFile(filepath.Join(s.LayerDir(v1.Layers[0].Digest), "file"))
	if err != nil || string(b) != "one" {
		t.Errorf("layer holds %q, %v", b, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the store has mode %v, %v", st.Mode(), err)
	}
}

func TestNotFoundHints(t *testing.T) {
	s := open(t, t.TempDir())
	hint := func(r string) string {
		_, err := s.Resolve(ref(r))
		var e *images.NotFoundError
		if !errors.As(err, &e) || !errors.Is(err, images.ErrNotFound) {
			t.Fatalf("Resolve(%q): %v", r, err)
		}
		return e.Error() + "; " + e.Hint()
	}
	if got, want := hint("lab"), `no image "lab"; there are no images yet: "rubus image import lab SOURCE" makes one`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	mustPut(t, s, "lab", "x")
	if got, want := hint("lba"), `no image "lba"; there is lab`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := hint("lab@4"), `no version "lab@4"; there is lab@1`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	_, _, err := put(t.Context(), s, "y", images.NewVersion{Name: "new", NoTag: true})
	must(t, err)
	if got, want := hint("new"), `no image "new"; it has no tag; there is new@1: set one with "rubus image tag new new@1"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRemove(t *testing.T) {
	s := open(t, t.TempDir())
	v1, v2, v3 := mustPut(t, s, "lab", "1"), mustPut(t, s, "lab", "2"), mustPut(t, s, "lab", "3")
	other := mustPut(t, s, "other", "1") // shares its layer with lab@1
	rm := func(u images.UsesFunc, names ...string) error {
		var refs []imageref.Ref
		for _, n := range names {
			refs = append(refs, ref(n))
		}
		_, err := s.Remove(t.Context(), refs, u)
		return err
	}
	board := images.Use{Ref: v1.Ref, Layers: []string{v1.Layers[0].Digest}, Who: "board 5b154510"}
	var inUse *images.InUseError
	if err := rm(uses(board), "lab@1", "lab@2"); !errors.As(err, &inUse) || inUse.Error() != `"lab@1" is in use by board 5b154510` {
		t.Errorf("version in use: %v", err)
	}
	// A use that doesn't know its version's name counts by its stack.
	if err := rm(uses(images.Use{Layers: board.Layers, Who: "x"}), "lab@1"); !errors.As(err, &inUse) {
		t.Errorf("stack in use: %v", err)
	}
	var tagged *images.TaggedError
	if err := rm(noUses, "lab@3"); !errors.As(err, &tagged) {
		t.Errorf("tagged version: %v", err)
	}
	broken := func() ([]images.Use, error) { return nil, errors.New("device.json is damaged") }
	if err := rm(broken, "lab@1"); err == nil {
		t.Error("removed without knowing what is in use")
	}
	if list, _ := s.List(); len(list) != 4 {
		t.Fatalf("a refused removal removed something: %v", list)
	}
	must(t, rm(noUses, "lab@2"))
	if err := rm(noUses, "lab@2"); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	must(t, rm(noUses, "lab@1", "lab"))
	if _, err := s.Resolve(ref("lab")); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("after all went: %v", err)
	}
	if tags, err := s.Tags(); err != nil || len(tags) != 1 {
		t.Errorf("tags %v, %v", tags, err)
	}
	// lab@2's board kept its layer though the version is gone; other@1 keeps lab@1's.
	keep := images.Use{Ref: v2.Ref, Layers: []string{v2.Layers[0].Digest}, Who: "board"}
	want, err := s.Garbage(t.Context(), uses(keep))
	must(t, err)
	rep, err := s.GC(t.Context(), uses(keep))
	must(t, err)
	if len(rep.Removed) != 1 || rep.Removed[0] != v3.Layers[0] || rep.Kept != 2 || rep.Bytes != 1 || !slices.Equal(want.Removed, rep.Removed) {
		t.Errorf("report %+v", rep)
	}
	if _, err := s.Resolve(other.Ref); err != nil {
		t.Error(err)
	}
	checkTmpEmpty(t, s)
	// The number of a removed version never comes back.
	if v := mustPut(t, s, "lab", "4"); v.Ref != ref("lab@4") {
		t.Errorf("next version is %v", v.Ref)
	}
}

func TestConcurrentImports(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := images.Open(dir) // sweeps beside live imports
			if err == nil {
				_, _, err = put(t.Context(), s, fmt.Sprint(i%4), images.NewVersion{Name: "lab"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := open(t, dir)
	list, err := s.List()
	if err != nil || len(list) != 8 {
		t.Fatalf("%d versions, %v", len(list), err)
	}
	layers, err := os.ReadDir(filepath.Join(dir, "layers"))
	if err != nil || len(layers) != 4 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
	checkTmpEmpty(t, s)
}

func TestVerify(t *testing.T) {
	s := open(t, t.TempDir())
	v := mustPut(t, s, "lab", "golden")
	d := v.Layers[0].Digest
	must(t, s.Verify(t.Context(), d, nil))
	if got, err := images.DigestTree(t.Context(), s.LayerDir(d)); err != nil || got != d {
		t.Errorf("DigestTree = %s, %v", got, err)
	}
	must(t, os.WriteFile(filepath.Join(s.LayerDir(d), "file"), []byte("gilded"), 0))
	err := s.Verify(t.Context(), d, nil)
	var damaged *images.DamagedError
	if !errors.As(err, &damaged) || !strings.HasSuffix(err.Error(), "is damaged: file has other content") {
		t.Errorf("after an edit: %v", err)
	}
	// Without the listing it still knows that something is wrong.
	must(t, os.WriteFile(filepath.Join(filepath.Dir(s.LayerDir(d)), "listing.zst"), []byte("x"), 0))
	if err := s.Verify(t.Context(), d, nil); !errors.As(err, &damaged) || len(damaged.Differences) != 0 {
		t.Errorf("without a listing: %v", err)
	}
	for _, no := range []string{"", "../../etc", strings.Repeat("0", 64)} {
		if err := s.Verify(t.Context(), no, nil); !errors.Is(err, images.ErrNotFound) {
			t.Errorf("Verify(%q): %v", no, err)
		}
	}
}
