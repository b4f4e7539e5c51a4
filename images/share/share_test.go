package share_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/share"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// disk mounts a new file system; mount namespaces are those of scripts/in-ns.
func disk(t testing.TB, kind string) string {
	t.Helper()
	img, dir := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	for _, args := range [][]string{
		{"truncate", "-s", "400M", img},
		{"mkfs." + kind, "-q", img},
		{"mount", "-o", "loop", img, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", kind, err)
		}
	})
	return dir
}

// noise is content that nothing compresses, the same for the same seed.
func noise(seed uint64, size int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secrets
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// root makes a root with files that both roots have, and some of its own.
func root(t testing.TB, own uint64) string {
	t.Helper()
	dir := t.TempDir()
	file := func(path string, b []byte) {
		t.Helper()
		p := filepath.Join(dir, path)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, b, 0o644))
	}
	for i := range uint64(20) {
		file(fmt.Sprintf("usr/lib/both%d", i), noise(i, 100_000+int(i)))
	}
	for i := range 10 {
		file(fmt.Sprintf("etc/small%d", i), noise(uint64(100+i), 3000+i))
	}
	file("etc/tiny", []byte("a line\n"))
	file("etc/empty", nil)
	file(fmt.Sprintf("usr/moved%d", own), noise(50, 5<<20))
	file("usr/own", noise(1000+own, 1<<20))
	file("usr/twice", noise(1000+own, 1<<20))
	sparse, err := os.Create(filepath.Join(dir, "usr/sparse"))
	must(t, err)
	_, err = sparse.WriteAt(noise(60, 70_000), 3<<20)
	must(t, errors.Join(err, sparse.Truncate(9<<20), sparse.Close()))
	must(t, os.Link(filepath.Join(dir, "usr/lib/both0"), filepath.Join(dir, "usr/lib/link")))
	must(t, os.Chmod(filepath.Join(dir, "usr/lib/both1"), 0o600+os.FileMode(own)))
	return dir
}

func open(t testing.TB, dir string) *images.Store {
	t.Helper()
	s, err := images.Open(filepath.Join(dir, "images"))
	must(t, err)
	return s
}

// stats is everything stat shows of a layer's files, inodes and times included.
func stats(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		fmt.Fprintln(&b, p, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Blocks, st.Mtim, st.Ctim)
		return nil
	}))
	return b.String()
}

func free(t testing.TB, dir string) int64 {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Syncfs(fd))
	var st unix.Statfs_t
	must(t, unix.Fstatfs(fd, &st))
	return int64(st.Bfree) * st.Bsize
}

// A second import takes the room of what is new in it, and nothing of what is there has
// changed; what was joined once is not read again.
func TestImport(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := disk(t, kind)
			s := open(t, dir)
			first, rep, err := importer.Import(t.Context(), s, "lab", root(t, 1), importer.Options{})
			must(t, err)
			// One of the two that are the same within it.
			if rep.Joined == nil || rep.Joined.Files != 1 || rep.Joined.Bytes != 1<<20 {
				t.Errorf("the first import joined %+v", rep.Joined)
			}
			before, space := stats(t, s.LayerDir(first.Layers[0].Digest)), free(t, dir)
			src := root(t, 2)
			second, rep, err := importer.Import(t.Context(), s, "lab", src, importer.Options{})
			must(t, err)
			// both*, moved, sparse's data, twice; btrfs keeps small files in the inode.
			const least = 20*100_000 + 5<<20 + 70_000 + 1<<20
			if j := rep.Joined; j == nil || j.Files < 23 || j.Bytes < least || j.Damaged != nil {
				t.Errorf("the second import joined %+v", j)
			}
			if got := stats(t, s.LayerDir(first.Layers[0].Digest)); got != before {
				t.Errorf("the first layer changed:\n%s\nbefore:\n%s", got, before)
			}
			// 1 MiB is its own; the rest is for what file systems note.
			if took := space - free(t, dir); took > 3<<20 {
				t.Errorf("the second import took %d bytes", took)
			}
			for _, v := range []images.Version{first, second} {
				must(t, s.Verify(t.Context(), v.Layers[0].Digest, nil))
			}
			again, err := share.Run(t.Context(), s, share.Options{})
			must(t, err)
			if again.Files != 0 || again.Before < least {
				t.Errorf("joined again: %+v", again)
			}
			usage, err := share.Measure(t.Context(), s, []string{first.Layers[0].Digest, second.Layers[0].Digest})
			must(t, err)
			if usage.Once < least || usage.Shared[0] < usage.Once || usage.Shared[1] < usage.Once || usage.Shared[0] > usage.Once+1<<21 {
				t.Errorf("usage %+v", usage)
			}
		})
	}
}

// plain makes a store with versions whose files were not joined: imported where that
// can't be, and copied.
func plain(t testing.TB, dir string, roots ...string) *images.Store {
	t.Helper()
	other := open(t, t.TempDir())
	for _, r := range roots {
		_, rep, err := importer.Import(t.Context(), other, "lab", r, importer.Options{})
		must(t, err)
		if rep.Joined != nil {
			t.Fatal("the directory of this test is on a file system that shares blocks: set TMPDIR to one that doesn't")
		}
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", "--reflink=never", other.Dir(), dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the store: %v\n%s", err, out)
	}
	return open(t, dir)
}

// What is there is joined when asked for: in several passes as in one, after a look
// that changes nothing, and also after a run that was cut off.
func TestRun(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := disk(t, kind)
			s := plain(t, dir, root(t, 1), root(t, 2), root(t, 3))
			layers, err := s.Layers(t.Context())
			must(t, err)
			before, space := stats(t, s.Dir()), free(t, dir)
			look, err := share.Run(t.Context(), s, share.Options{DryRun: true})
			must(t, err)
			if got := stats(t, s.Dir()); got != before {
				t.Errorf("a look changed:\n%s\nbefore:\n%s", got, before)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var events int64
			cut, err := share.Run(ctx, s, share.Options{Progress: func(share.Event) {
				if events++; events == 12 {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) || cut.Files >= look.Files {
				t.Errorf("cut off: %+v, %v", cut, err)
			}
			ended := reader(t, filepath.Join(s.LayerDir(layers[1].Digest), "usr/lib/both3"), noise(3, 100_003))
			var last share.Event
			rep, err := share.Run(t.Context(), s, share.InPasses(share.Options{Progress: func(e share.Event) { last = e }}, 10))
			must(t, err)
			ended()
			if rep.Files+cut.Files != look.Files || rep.Bytes+cut.Bytes != look.Bytes {
				t.Errorf("joined %+v after %+v, announced %+v", rep, cut, look)
			}
			if last.Bytes != rep.Bytes || last.Files == 0 || last.Files > last.Total {
				t.Errorf("the last event is %+v", last)
			}
			if got := stats(t, s.Dir()); got != before {
				t.Errorf("files changed:\n%s\nbefore:\n%s", got, before)
			}
			if back := free(t, dir) - space; back < rep.Bytes+cut.Bytes-1<<20 {
				t.Errorf("%d bytes are free again, %d were joined", back, rep.Bytes+cut.Bytes)
			}
			for _, l := range layers {
				must(t, s.Verify(t.Context(), l.Digest, nil))
			}
		})
	}
}

// reader reads a file over and over, by read and by mmap, until ended is called.
func reader(t testing.TB, path string, want []byte) (ended func()) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	pages, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		got := make([]byte, len(want))
		for {
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || !bytes.Equal(pages, want) {
				t.Errorf("a reader saw other content, %v", err)
				return
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		must(t, errors.Join(unix.Munmap(pages), f.Close()))
	}
}

// A file that is not what its layer says is joined with nothing, and said.
func TestDamaged(t *testing.T) {
	dir := disk(t, "xfs")
	s := plain(t, dir, root(t, 1), root(t, 2))
	layers, err := s.Layers(t.Context())
	must(t, err)
	victim := filepath.Join(s.LayerDir(layers[1].Digest), "usr/lib/both7")
	bad, err := os.ReadFile(victim)
	must(t, err)
	bad[50_000] ^= 1
	f, err := os.OpenFile(victim, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(bad)
	must(t, errors.Join(err, f.Close()))
	must(t, os.Remove(filepath.Join(s.LayerDir(layers[1].Digest), "usr/lib/both8"))) // no more than that
	rep, err := share.Run(t.Context(), s, share.Options{})
	must(t, err)
	if len(rep.Damaged) != 1 || strings.Count(rep.Damaged[0], ":/usr/lib/both7") != 2 {
		t.Errorf("damaged: %q", rep.Damaged)
	}
	if now, err := os.ReadFile(victim); err != nil || !bytes.Equal(now, bad) {
		t.Errorf("the damaged file changed, %v", err)
	}
	must(t, s.Verify(t.Context(), layers[0].Digest, nil))
}

// Where blocks can't be shared it is said, and an import works as ever.
func TestUnsupported(t *testing.T) {
	s := open(t, disk(t, "ext4"))
	_, rep, err := importer.Import(t.Context(), s, "lab", root(t, 1), importer.Options{Progress: func(e importer.Event) {
		if e.Phase == importer.Joining {
			t.Errorf("it is shown to join: %+v", e)
		}
	}})
	must(t, err)
	if rep.Joined != nil || strings.Contains(strings.Join(rep.Notes, "\n"), "twice") {
		t.Errorf("joined %+v, notes %q", rep.Joined, rep.Notes)
	}
	if _, err := share.Run(t.Context(), s, share.Options{}); !errors.Is(err, share.ErrUnsupported) {
		t.Errorf("joining: %v", err)
	}
	if _, err := share.Measure(t.Context(), s, nil); !errors.Is(err, share.ErrUnsupported) {
		t.Errorf("measuring: %v", err)
	}
}
