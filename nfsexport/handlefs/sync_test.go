package handlefs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/commit"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

// image is a file system in a file, on a loop device. Copying the file while it
// is mounted shows what a power cut at that moment would leave on the disk.
type image struct{ file, dir string }

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func newImage(t testing.TB, fsType, base string, mb int64, options ...string) *image {
	t.Helper()
	im := &image{base + "/image", base + "/mnt"}
	f, err := os.Create(im.file)
	if err == nil {
		err = f.Truncate(mb << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-q"}, options...)
	if fsType == "ext4" {
		args = append(args, "-b", "4096") // as on any disk that is not tiny
	}
	run(t, "mkfs."+fsType, append(args, im.file)...)
	if err := os.Mkdir(im.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", im.file, im.dir)
	t.Cleanup(func() { exec.Command("umount", "-R", im.dir).Run() })
	return im
}

// now copies the image as the disk has it now.
func (im *image) now(t testing.TB) *image {
	t.Helper()
	base := t.TempDir()
	after := &image{base + "/image", base + "/mnt"}
	run(t, "cp", "--sparse=always", im.file, after.file)
	return after
}

// attach mounts such a copy, whose journal is replayed.
func (im *image) attach(t testing.TB, fsType string) {
	t.Helper()
	if err := os.Mkdir(im.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	opts := "loop"
	if fsType == "xfs" {
		opts += ",nouuid"
	}
	run(t, "mount", "-o", opts, im.file, im.dir)
	t.Cleanup(func() { run(t, "umount", "-R", im.dir) })
}

// replay attaches such a copy, and gives the overlay in it, mounted.
func (im *image) replay(t testing.TB, fsType string) *nfstest.Overlay {
	t.Helper()
	im.attach(t, fsType)
	ov := &nfstest.Overlay{
		Lower: filepath.Join(im.dir, "lower"), Upper: filepath.Join(im.dir, "upper"),
		Work: filepath.Join(im.dir, "work"), Root: filepath.Join(im.dir, "root"),
	}
	ov.Mount(t)
	return ov
}

// cutPower gives the overlay as a power cut at this moment would leave it.
func (im *image) cutPower(t testing.TB, fsType string) *nfstest.Overlay {
	t.Helper()
	return im.now(t).replay(t, fsType)
}

// cut is one call, and what must be there after a power cut right after its
// answer.
type cut struct {
	name  string
	do    func(c nfstest.Client) error
	check func(c nfstest.Client) bool
}

func has(name string, mode uint32) func(nfstest.Client) bool {
	return func(c nfstest.Client) bool {
		st, err := c.Lstat(name)
		return err == nil && st.Mode == mode
	}
}

func gone(name string) func(nfstest.Client) bool {
	return func(c nfstest.Client) bool {
		_, err := c.Lstat(name)
		return err == unix.ENOENT
	}
}

func holds(name, want string) func(nfstest.Client) bool {
	return func(c nfstest.Client) bool {
		f, err := c.Open(name, unix.O_RDONLY, 0)
		if err != nil {
			return false
		}
		defer f.Close()
		buf := make([]byte, 100)
		n, err := f.ReadAt(buf, 0)
		return err == nil && string(buf[:n]) == want
	}
}

func writeSync(name, data string) func(c nfstest.Client) error {
	return func(c nfstest.Client) error {
		f, err := c.Open(name, unix.O_CREAT|unix.O_RDWR, 0o644)
		if err == nil {
			_, err = f.WriteAt([]byte(data), 0)
		}
		if err == nil {
			err = f.Sync()
		}
		return err
	}
}

var cuts = []cut{
	{"mkdir", func(c nfstest.Client) error { return c.Mkdir("deep/er/d", 0o751) }, has("deep/er/d", unix.S_IFDIR|0o751)},
	{"symlink", func(c nfstest.Client) error { return c.Symlink("x", "deep/er/l") }, has("deep/er/l", unix.S_IFLNK|0o777)},
	{"fifo", func(c nfstest.Client) error { return c.Mknod("deep/p", unix.S_IFIFO|0o640, 0) }, has("deep/p", unix.S_IFIFO|0o640)},
	{"char", func(c nfstest.Client) error { return c.Mknod("c", unix.S_IFCHR|0o640, 259) }, has("c", unix.S_IFCHR|0o640)},
	{"create", func(c nfstest.Client) error {
		_, err := c.Open("deep/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
		return err
	}, has("deep/f", unix.S_IFREG|0o600)},
	{"unlink", func(c nfstest.Client) error { return c.Unlink("a") }, gone("a")},
	{"rmdir", func(c nfstest.Client) error { return c.Rmdir("deep/er/d") }, gone("deep/er/d")},
	{"rename", func(c nfstest.Client) error { return c.Rename("b", "deep/b") }, holds("deep/b", "golden")},
	{"rename away", func(c nfstest.Client) error { return c.Rename("deep/b", "b2") }, gone("deep/b")},
	{"rename over", func(c nfstest.Client) error { return c.Rename("c", "d") }, has("d", unix.S_IFCHR|0o640)},
	{"link", func(c nfstest.Client) error { return c.Link("e", "deep/e") }, holds("deep/e", "golden")},
	{"chmod", func(c nfstest.Client) error { return c.Chmod("e", 0o4711) }, has("deep/e", unix.S_IFREG|0o4711)},
	{"chmod of a fifo", func(c nfstest.Client) error { return c.Chmod("deep/p", 0o4711) }, has("deep/p", unix.S_IFIFO|0o4711)},
	{"chown of a link", func(c nfstest.Client) error { return c.Chown("deep/er/l", 12, 34) }, func(c nfstest.Client) bool {
		st, err := c.Lstat("deep/er/l")
		return err == nil && st.Uid == 12 && st.Gid == 34
	}},
	{"times", func(c nfstest.Client) error {
		return c.Utimes("g", unix.Timespec{Sec: 5, Nsec: 6}, unix.Timespec{Sec: 7, Nsec: 8})
	}, func(c nfstest.Client) bool {
		st, err := c.Lstat("g")
		return err == nil && st.Mtim == unix.Timespec{Sec: 7, Nsec: 8}
	}},
	{"truncate", func(c nfstest.Client) error { return c.Truncate("h", 3) }, holds("h", "gol")},
	{"commit of a golden file", writeSync("i", "COMMIT"), holds("i", "COMMIT")},
	{"commit after another name went", func(c nfstest.Client) error {
		if err := c.Link("i", "i2"); err != nil {
			return err
		}
		f, err := c.Open("i", unix.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("linked"), 0)
		}
		if err == nil {
			err = c.Unlink("i2")
		}
		if err == nil {
			err = f.Sync()
		}
		return err
	}, holds("i", "linked")},
	{"commit of a new file", writeSync("deep/new", "COMMIT"), holds("deep/new", "COMMIT")},
}

// hasUnnamed says whether this process has a file open below dir that has no name.
func hasUnnamed(t *testing.T, dir string) bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		return strings.HasPrefix(to, dir+"/") && strings.HasSuffix(to, " (deleted)")
	})
}

// TestPowerCut cuts the power after every kind of call.
func TestPowerCut(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			im := newImage(t, fsType, t.TempDir(), 400)
			w := newWorld(t, im.dir, Options{}, false, func(lower string) {
				for _, n := range []string{"a", "b", "d", "e", "g", "h", "i"} {
					write(t, lower+"/"+n, "golden")
				}
				os.MkdirAll(lower+"/deep/er", 0o755)
			})
			if quick := hasUnnamed(t, w.ov.Root); quick != (fsType != "btrfs") {
				t.Errorf("one small file is synced for all: %v", quick)
			}
			run(t, "sync")
			var disks []*image
			for _, c := range cuts {
				if err := c.do(w.client()); err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				disks = append(disks, im.now(t))
			}
			// Only then are the copies mounted: btrfs takes two disks of one
			// identity for one.
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			run(t, "umount", "-R", im.dir)
			for i, c := range cuts {
				t.Run(c.name, func(t *testing.T) {
					if !c.check(nfstest.Mounted(disks[i].replay(t, fsType).Root)) {
						t.Error("lost")
					}
				})
			}
		})
	}
}

// TestPowerCutSettle: what a server did that was killed before it brought that
// to disk is there after a Settle of the next one.
func TestPowerCutSettle(t *testing.T) {
	im := newImage(t, "ext4", t.TempDir(), 100)
	w := newWorld(t, im.dir, Options{}, false, func(lower string) { write(t, lower+"/f", "golden") })
	t.Cleanup(func() { w.Close() })
	run(t, "sync")
	if err := os.Rename(w.ov.Root+"/f", w.ov.Root+"/g"); err != nil {
		t.Fatal(err)
	}
	if st := w.Settle(&w.call, w.root); st != nfs3.OK {
		t.Fatalf("settle: status %d", st)
	}
	if !holds("g", "golden")(nfstest.Mounted(im.cutPower(t, "ext4").Root)) {
		t.Error("lost")
	}
}

// TestPowerCutStableWrite: a FILE_SYNC write needs no COMMIT.
func TestPowerCutStableWrite(t *testing.T) {
	im := newImage(t, "ext4", t.TempDir(), 100)
	w := newWorld(t, im.dir, Options{}, true, func(lower string) { write(t, lower+"/f", "golden") })
	t.Cleanup(func() { w.Close() })
	for how, text := range map[nfs3.Stable]string{nfs3.FileSync: "FILESYNC", nfs3.DataSync: "datasync"} {
		var wcc nfs3.Wcc
		n, done, st := w.Write(&w.call, w.lookup(t, "f"), 0, []byte(text), how, &wcc)
		if st != nfs3.OK || n != len(text) || done < how {
			t.Fatalf("write: %d bytes, stable %d, status %d", n, done, st)
		}
		if !holds("f", text)(nfstest.Mounted(im.cutPower(t, "ext4").Root)) {
			t.Errorf("%s: lost", text)
		}
	}
}

// TestFailedSync: what could not be brought to disk is IO, and the write
// verifier changes.
func TestFailedSync(t *testing.T) {
	var events []EventKind
	w := newWorld(t, t.TempDir(), Options{Seed: 77, Observe: func(e Event) { events = append(events, e.Kind) }}, false, nil)
	before := w.WriteVerifier(w.root)
	root := (*w.table.Load())[w.exp.ID].root
	good := root.commits
	root.commits = commit.Open(-1, "") // nobody can sync that
	var n nfs3.New
	if st := w.Mkdir(&w.call, w.root, "d", &nfs3.SetAttr{}, &n); st != nfs3.ErrIO {
		t.Errorf("mkdir: status %d", st)
	}
	root.commits = good
	if w.WriteVerifier(w.root) == before {
		t.Error("the write verifier did not change")
	}
	if len(events) != 1 || events[0] != SyncFailed {
		t.Errorf("observed %v", events)
	}
	before = w.WriteVerifier(w.root)
	if st := w.Mkdir(&w.call, w.root, "e", &nfs3.SetAttr{}, &n); st != nfs3.OK || w.WriteVerifier(w.root) != before {
		t.Errorf("mkdir afterwards: status %d", st)
	}
}

// TestDeviceFails fills the disk's own storage, so that data that was taken
// cannot be written: COMMIT tells it.
func TestDeviceFails(t *testing.T) {
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
	im := newImage(t, "ext4", small, 256)
	w := newWorld(t, im.dir, Options{}, true, nil)
	t.Cleanup(func() { w.Close() })
	f, err := w.client().Open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	before := w.WriteVerifier(w.root)
	data := bytes.Repeat([]byte("x"), nfs3.MaxIO)
	for i := range int64(48) {
		if _, err := f.WriteAt(data, i*nfs3.MaxIO); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err == nil {
		t.Error("COMMIT to a disk that failed succeeded")
	}
	if w.WriteVerifier(w.root) == before {
		t.Error("the write verifier did not change")
	}
}

// TestSettleTogether shows that calls share their way to disk.
func TestSettleTogether(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, false, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			call := w.call
			for i := range 50 {
				var n nfs3.New
				if st := w.Create(&call, w.root, fmt.Sprintf("f%d-%d", g, i), nfs3.Guarded, &nfs3.SetAttr{}, 0, &n); st != nfs3.OK {
					t.Errorf("create: status %d", st)
				}
			}
		})
	}
	wg.Wait()
}
