package handlefs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// Where a rename has to copy directories up and there is no room for that, on the disk or
// in a quota of the file system's, it is refused for that reason, nothing has another
// name, and the board reads on.
func TestRenameWithoutRoom(t *testing.T) {
	for name, c := range map[string]struct {
		fs   string
		mib  int64
		fill func(t *testing.T, dir string)
		want nfs3.Status
	}{
		"full disk": {"ext4", 32, fillDisk, nfs3.ErrNoSpc},
		"qgroup": {"btrfs", 128, func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/fill", make([]byte, 4<<20), 0o600))
			run(t, "btrfs", "quota", "enable", dir)
			run(t, "btrfs", "quota", "rescan", "-w", dir)
			run(t, "btrfs", "qgroup", "limit", "1M", "0/5", dir)
		}, nfs3.ErrDQuot},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newImage(t, c.fs, t.TempDir(), c.mib).dir
			w := &world{call: nfs3.Call{Peer: board}}
			w.FS = newFS(t, Options{})
			for i, dirs := range []string{"m/s/deep/deeper m/t", "m/s"} {
				l := filepath.Join(dir, string(rune('0'+i)))
				for d := range strings.FieldsSeq(dirs) {
					must(t, os.MkdirAll(filepath.Join(l, d), 0o755))
				}
				w.exp.Layers = append(w.exp.Layers, l)
			}
			must(t, os.WriteFile(dir+"/0/m/t/file", []byte("golden"), 0o644))
			w.layered(t, dir, "")
			defer w.Close() // before what it lies on is unmounted
			all := w.walk(t)
			c.fill(t, dir)
			var a, b nfs3.Wcc
			if st := w.Rename(&w.call, w.root, "m", w.root, "new", &a, &b); st != c.want {
				t.Errorf("the rename: %s, want %s", st, c.want)
			}
			w.hold(t, all)
			if again := w.walk(t); len(again) != len(all) { // it looks at all names, and reads files
				t.Errorf("%d names, and there were %d", len(again), len(all))
			}
		})
	}
}

// fillDisk writes until there is not a block left.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/fill")
	must(t, err)
	for _, n := range []int{1 << 20, 4096} {
		for err == nil {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	must(t, f.Sync())
	must(t, f.Close())
}

// On a disk without a block left the kernel can copy nothing up for a handle, as it wants
// to below what a rebase has made. All can be looked up all the same, by the handles that
// the kernel gives when there is room, and these stay good when that directory is renamed.
func TestJoinedOnAFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		fs     string
		mib    int64
		layers int
	}{"ext4": {"ext4", 32, 1}, "two layers": {"ext4", 32, 2}, "xfs": {"xfs", 320, 1}} {
		t.Run(name, func(t *testing.T) {
			dir := newImage(t, c.fs, t.TempDir(), c.mib).dir
			w := &world{call: nfs3.Call{Peer: board}}
			w.FS = newFS(t, Options{})
			for i := range c.layers {
				l := filepath.Join(dir, string(rune('0'+i)))
				for _, d := range []string{"d/sub/deep", "d/sub2", "golden"} {
					must(t, os.MkdirAll(filepath.Join(l, d), 0o755))
				}
				w.exp.Layers = append(w.exp.Layers, l)
			}
			for _, f := range []string{"golden/file", "d/file", "d/sub/deep/file"} {
				must(t, os.WriteFile(filepath.Join(dir, "0", f), []byte("golden"), 0o644))
			}
			must(t, os.MkdirAll(dir+"/upper/d", 0o755))
			w.layered(t, dir, "")
			defer w.Close() // before what it lies on is unmounted
			fillDisk(t, dir)
			full := w.walk(t) // it looks at all names, and reads files
			if len(full) < 8 {
				t.Errorf("%d names", len(full))
			}
			must(t, os.Remove(dir+"/fill"))
			w.hold(t, full)
			var a, b nfs3.Wcc
			if st := w.Rename(&w.call, w.root, "d", w.root, "d2", &a, &b); st != nfs3.OK {
				t.Fatalf("a rename when there is room: %s", st)
			}
			w.remount(t)
			w.hold(t, full)
			moved := map[string][]byte{}
			for _, s := range w.walk(t) {
				moved[s.path] = s.handle
			}
			for _, s := range full {
				path := s.path
				if rest, below := strings.CutPrefix(path, "d"); below {
					path = "d2" + rest
				}
				if string(moved[path]) != string(s.handle) {
					t.Errorf("%s had another handle on the full disk", path)
				}
			}
		})
	}
}
