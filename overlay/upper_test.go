package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestUppersCreate(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	must(t, os.Chown(s.layers[0], 12, 34))
	must(t, unix.Chmod(s.layers[0], 0o1751))
	must(t, unix.Setxattr(s.layers[0], "user.rubus", []byte("x"), 0))
	must(t, unix.Setxattr(s.layers[0], "trusted.overlay.opaque", []byte("y"), 0))
	u := s.uppers("00000001")
	if ids, err := u.List(); err != nil || ids != nil {
		t.Errorf("list of nothing: %v, %v", ids, err)
	}
	// What a killed Create left.
	must(t, os.MkdirAll(filepath.Join(u.Dir, newPrefix+string(MakeUpperID(s.base.ID, 1)), "upper"), 0o700))
	other := Base{ID: "0000000000000000"}
	for _, c := range []struct {
		base Base
		n    int
	}{{s.base, 1}, {s.base, 2}, {other, 1}, {s.base, 3}} {
		if id, err := u.Create(c.base, c.n, s.layers[0]); err != nil || id != MakeUpperID(c.base.ID, c.n) {
			t.Errorf("created %q, %v, want number %d", id, err, c.n)
		}
	}
	if _, err := u.Create(s.base, 2, s.layers[0]); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created an upper twice: %v", err)
	}
	if _, err := u.Create(Base{ID: "../../etc"}, 1, s.layers[0]); err == nil {
		t.Error("created an upper of a bad base")
	}
	must(t, u.Remove(t.Context(), MakeUpperID(s.base.ID, 2)))
	ids, err := u.List()
	must(t, err)
	want := []UpperID{MakeUpperID(other.ID, 1), MakeUpperID(s.base.ID, 1), MakeUpperID(s.base.ID, 3)}
	if d := cmp.Diff(want, ids); d != "" {
		t.Errorf("uppers (-want +got):\n%s", d)
	}

	upper := filepath.Join(u.Path(ids[1]), "upper")
	var st unix.Stat_t
	must(t, unix.Stat(upper, &st))
	names, err := listXattrs(upper)
	must(t, err)
	if st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o1751 || !slices.Equal(names, []string{"user.rubus"}) {
		t.Errorf("new upper has owner %d:%d, mode %o, attributes %q", st.Uid, st.Gid, st.Mode, names)
	}
}

// TestUppersAtOnce: hundreds of boards get an upper at a time, so what one takes of a stack is little.
func TestUppersAtOnce(t *testing.T) {
	const boards, most = 100, 64 << 10
	from, to := t.TempDir(), t.TempDir()
	must(t, unix.Setxattr(from, "user.rubus", []byte("x"), 0))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var done, all sync.WaitGroup
	hold := make(chan struct{})
	for range boards {
		done.Add(1)
		all.Go(func() {
			if err := copyAttributes(from, to); err != nil {
				t.Error(err)
			}
			done.Done()
			<-hold
		})
	}
	done.Wait()
	runtime.ReadMemStats(&after)
	close(hold)
	all.Wait()
	if took := (int64(after.StackInuse) - int64(before.StackInuse)) / boards; took > most {
		t.Errorf("%d bytes of stack for a board, want %d at most", took, most)
	}
}

func TestRemoveRefuses(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec := s.spec("00000001")
	u := s.uppers("00000001")
	root := s.mount(spec)
	if err := u.Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "is mounted on") {
		t.Errorf("a mounted upper: %v", err)
	}
	must(t, Unmount(t.Context(), root))

	// An overlay that isn't ours, over our directories.
	plan, err := Plan(spec)
	must(t, err)
	must(t, unix.Mount("foreign", plan.Target, "overlay", 0, "lowerdir="+plan.Lower[0]+",upperdir="+plan.Upper+",workdir="+plan.Work))
	if err := u.Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) {
		t.Errorf("an upper of a foreign overlay: %v", err)
	}
	must(t, unix.Unmount(plan.Target, 0))

	if err := u.Remove(t.Context(), "../../../etc"); err == nil {
		t.Error("removed a path that is no upper")
	}
	must(t, u.Remove(t.Context(), spec.UpperID))
	must(t, u.Remove(t.Context(), spec.UpperID)) // twice is fine
	if entries, err := os.ReadDir(u.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestRemoveSparesMounts plants a mount below an upper and shows that nothing
// in it is ever removed, neither when the table of mounts shows it nor when the
// removal runs into it.
func TestRemoveSparesMounts(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	precious := filepath.Join(s.dir, "precious")
	must(t, os.MkdirAll(filepath.Join(precious, "deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(precious, "deep/file"), []byte("precious"), 0o600))
	check := func() {
		t.Helper()
		if got := readAll(t, filepath.Join(precious, "deep/file")); got != "precious" {
			t.Fatalf("a file below a mount: %q", got)
		}
	}
	for where, what := range map[string]string{
		"upper/x/y/mnt": precious, "upper": precious, "work/work/mnt": precious, "": precious,
		"upper/x/file": filepath.Join(precious, "deep/file"),
	} {
		spec := s.spec("00000001")
		u := s.uppers("00000001")
		for _, d := range []string{"upper/x/y/mnt", "upper/x/y/z", "work/work/mnt"} {
			must(t, os.MkdirAll(filepath.Join(spec.UpperDir, d), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(spec.UpperDir, "upper/x/file"), []byte("own"), 0o600))
		mnt := filepath.Join(spec.UpperDir, where)
		must(t, unix.Mount(what, mnt, "", unix.MS_BIND, ""))
		if err := u.Remove(t.Context(), spec.UpperID); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "below it") {
			t.Errorf("mount on %q: %v", where, err)
		}
		check()
		// Had the mount come a moment later:
		err := u.removeDir(t.Context(), string(spec.UpperID))
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EXDEV) {
			t.Errorf("removing over a mount on %q: %v", where, err)
		}
		check()
		mounts, err := mountTable()
		must(t, err)
		left := 0
		for _, m := range mounts {
			if below(m.Mountpoint, u.Dir) {
				left++
				must(t, unix.Unmount(m.Mountpoint, 0))
			}
		}
		if left != 1 {
			t.Errorf("mount on %q: %d mounts left, want it to stay", where, left)
		}
		must(t, u.Remove(t.Context(), spec.UpperID))
		check()
	}
}

func TestRemoveAwkwardTrees(t *testing.T) {
	for name, fill := range map[string]func(t *testing.T, dir string){
		"deeper than any path": func(t *testing.T, dir string) { deepTree(t, dir, 3000) },
		"wide": func(t *testing.T, dir string) {
			for i := range 2500 {
				must(t, os.Mkdir(filepath.Join(dir, fmt.Sprintf("d%d", i)), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), nil, 0o600))
			}
		},
		"no permissions": func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
			must(t, os.Chmod(filepath.Join(dir, "a/b"), 0))
			must(t, os.Chmod(filepath.Join(dir, "a"), 0))
		},
		"symlinks, fifos, devices, sockets": func(t *testing.T, dir string) {
			must(t, os.Symlink("/etc", filepath.Join(dir, "link")))
			must(t, os.Symlink("link", filepath.Join(dir, "link2")))
			must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
			must(t, unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0))
			must(t, unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0))
		},
		"names of ours": func(t *testing.T, dir string) {
			for i := range 5 {
				must(t, os.MkdirAll(filepath.Join(dir, "a", fmt.Sprint(movedPrefix, i), fmt.Sprint(movedPrefix, i)), 0o755))
				must(t, os.MkdirAll(filepath.Join(filepath.Dir(dir), fmt.Sprint(movedPrefix, i), "x"), 0o755))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, t.TempDir(), []string{"a"})
			spec, u := s.spec("00000001"), s.uppers("00000001")
			fill(t, filepath.Join(spec.UpperDir, "upper"))
			if _, err := u.Usage(t.Context(), spec.UpperID); err != nil {
				t.Errorf("usage: %v", err)
			}
			must(t, u.Remove(t.Context(), spec.UpperID))
			if entries, err := os.ReadDir(u.Dir); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// deepTree makes directories far deeper than a path can be long, as a board
// can over NFS.
func deepTree(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "directory", 0o755))
		next, err := unix.Openat(fd, "directory", unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
}

// TestRemoveGoesOn stops a removal halfway and finds it finished at the next
// start, with what else was left.
func TestRemoveGoesOn(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec, u := s.spec("00000001"), s.uppers("00000001")
	kept := s.spec("00000001")
	deepTree(t, filepath.Join(spec.UpperDir, "upper"), 50)
	must(t, os.WriteFile(filepath.Join(kept.UpperDir, "upper/file"), []byte("kept"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Remove(ctx, spec.UpperID); !errors.Is(err, context.Canceled) {
		t.Errorf("removal with a context that is over: %v", err)
	}
	if ids, err := u.List(); err != nil || !slices.Equal(ids, []UpperID{kept.UpperID}) {
		t.Errorf("uppers while the removal is halfway: %v, %v", ids, err)
	}
	must(t, os.MkdirAll(filepath.Join(u.Dir, newPrefix+"x", "upper"), 0o700))
	must(t, u.Sweep(t.Context()))
	must(t, u.Sweep(t.Context()))
	if entries, err := os.ReadDir(u.Dir); err != nil || len(entries) != 1 {
		t.Errorf("after the sweep: %v, %v", entries, err)
	}
	if got := readAll(t, filepath.Join(kept.UpperDir, "upper/file")); got != "kept" {
		t.Errorf("the other upper: %q", got)
	}
	must(t, s.uppers("00000009").Sweep(t.Context())) // no such board
}

// TestRemoveAfterUse removes what the kernel left in work and index.
func TestRemoveAfterUse(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a", "d/b"})
	must(t, os.Link(filepath.Join(s.layers[0], "a"), filepath.Join(s.layers[0], "alias")))
	spec, u := s.spec("00000001"), s.uppers("00000001")
	root := s.mount(spec)
	must(t, os.WriteFile(filepath.Join(root.Target, "alias"), []byte("x"), 0o600))
	must(t, os.RemoveAll(filepath.Join(root.Target, "d")))
	must(t, Unmount(t.Context(), root))
	must(t, u.Remove(t.Context(), spec.UpperID))
	if entries, err := os.ReadDir(u.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestUsage(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec, u := s.spec("00000001"), s.uppers("00000001")
	up := filepath.Join(spec.UpperDir, "upper")
	if got, err := u.Usage(t.Context(), spec.UpperID); err != nil || got != (Usage{}) {
		t.Errorf("usage of nothing: %+v, %v", got, err)
	}
	must(t, os.MkdirAll(filepath.Join(up, "d/e"), 0o755))
	must(t, os.WriteFile(filepath.Join(up, "d/big"), make([]byte, 1<<20), 0o600))
	must(t, os.Link(filepath.Join(up, "d/big"), filepath.Join(up, "d/e/again")))
	must(t, os.WriteFile(filepath.Join(up, "sparse"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(up, "sparse"), 1<<30))
	got, err := u.Usage(t.Context(), spec.UpperID)
	if err != nil || got.Files != 4 || got.Bytes < 1<<20 || got.Bytes > 2<<20 {
		t.Errorf("usage %+v, %v; want 4 files and a little over 1 MiB", got, err)
	}
	// What overlayfs keeps beside the upper takes space, too; links count once.
	work := filepath.Join(spec.UpperDir, "work")
	must(t, os.MkdirAll(filepath.Join(work, "index"), 0o755))
	must(t, os.Link(filepath.Join(up, "d/big"), filepath.Join(work, "index/00fb")))
	must(t, os.WriteFile(filepath.Join(work, "index/00fc"), make([]byte, 1<<20), 0o600))
	all, err := Footprint(t.Context(), spec.UpperDir)
	if err != nil || all.Files != got.Files+2 || all.Bytes < got.Bytes+1<<20 || all.Bytes > got.Bytes+2<<20 {
		t.Errorf("footprint %+v, %v; usage %+v", all, err, got)
	}
	if _, err := Footprint(t.Context(), filepath.Join(spec.UpperDir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("footprint of nothing: %v", err)
	}
	if _, err := u.Usage(t.Context(), MakeUpperID(s.base.ID, 99)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("usage of a missing upper: %v", err)
	}
	if _, err := u.IsEmpty(MakeUpperID(s.base.ID, 99)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("emptiness of a missing upper: %v", err)
	}
}
