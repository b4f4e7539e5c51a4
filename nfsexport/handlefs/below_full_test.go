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

// On a disk without a block left what the kernel has to copy up for a handle, as below
// what a rebase has made, cannot be looked up; all else is read, and that, too, when there
// is room again.
func TestJoinedOnAFullDisk(t *testing.T) {
	dir := newImage(t, "ext4", t.TempDir(), 32).dir
	w := newWorld(t, dir, Options{}, true, func(lower string) {
		must(t, os.MkdirAll(filepath.Join(lower, "d/sub"), 0o755))
		must(t, os.MkdirAll(filepath.Join(lower, "golden"), 0o755))
		must(t, os.Mkdir(filepath.Join(lower, "../upper/d"), 0o755))
		write(t, lower+"/golden/file", "golden")
		write(t, lower+"/d/file", "golden")
	})
	defer w.Close() // before what it lies on is unmounted
	joined := w.lookup(t, "d")
	fillDisk(t, dir)
	var h []byte
	var a, d nfs3.PostAttr
	if st := w.Lookup(&w.call, joined, "sub", &h, &a, &d); st != nfs3.ErrNoSpc {
		t.Errorf("looking up a directory that has to be copied up: %s", st)
	}
	b := make([]byte, 100)
	for _, name := range []string{"golden/file", "d/file"} {
		if n, _, st := w.Read(&w.call, w.lookup(t, name), 0, b, &a); st != nfs3.OK || string(b[:n]) != "golden" {
			t.Errorf("%s: %q, %s", name, b[:n], st)
		}
	}
	must(t, os.Remove(dir+"/fill"))
	w.lookup(t, "d/sub")
}
