package handlefs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// newStack is newWorld over layers with these directories, the bottom one first.
func newStack(t *testing.T, layers ...[]string) *world {
	t.Helper()
	base := t.TempDir()
	w := &world{call: nfs3.Call{Peer: board}}
	w.FS = newFS(t, Options{})
	for i, dirs := range layers {
		l := filepath.Join(base, fmt.Sprint(i))
		for _, d := range dirs {
			if err := os.MkdirAll(filepath.Join(l, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.exp.Layers = append(w.exp.Layers, l)
	}
	w.layered(t, base, "")
	return w
}

// TestMovedByOthers: what is below a directory that was moved, but not by us, has handles
// that are good after a remount. Backends of the kernel move directories so, and a
// restored upper is like one that was moved and has no index.
func TestMovedByOthers(t *testing.T) {
	for _, restored := range []bool{false, true} {
		t.Run(fmt.Sprint("restored ", restored), func(t *testing.T) {
			w := newStack(t, []string{"m/s/deep/deeper", "m/t", "m/x/y"}, []string{"m/s", "z"})
			if err := w.Withdraw(w.exp.ID); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(w.ov.Root, "m"), filepath.Join(w.ov.Root, "n")); err != nil {
				t.Fatal(err)
			}
			w.ov.Unmount(t)
			if restored {
				w.forgetIndex(t)
			}
			w.ov.Mount(t)
			w.publish(t)
			all := w.walk(t)
			w.remount(t)
			w.hold(t, all)
			w.asKernel(t, all)
		})
	}
}

// forgetIndex takes from the upper what ties it to inodes, as a backup does. The root is
// not mounted.
func (w *world) forgetIndex(t *testing.T) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.RemoveAll(w.ov.Work))
	must(os.Mkdir(w.ov.Work, 0o755))
	must(filepath.WalkDir(w.ov.Upper, func(p string, _ fs.DirEntry, err error) error {
		for _, attr := range []string{"origin", "impure", "upper", "uuid"} {
			unix.Lremovexattr(p, "trusted.overlay."+attr)
		}
		return err
	}))
}

// TestLookedAtWhenFull: below what a restore has made a board can look at directories of
// its image when the kernel's quota is used up, as that gives way a little. Where there is
// no room at all it is told so.
func TestLookedAtWhenFull(t *testing.T) {
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	w := newWorld(t, base, Options{}, true, func(lower string) {
		must(t, os.MkdirAll(filepath.Join(lower, "d/sub"), 0o755))
		must(t, os.Mkdir(filepath.Join(base, "upper/d"), 0o755))
	})
	w.exp.Layers = nil // nothing is made of their handles, see spare
	w.publish(t)
	dir := w.lookup(t, "d")
	var fill []string
	for {
		p := filepath.Join(base, fmt.Sprint("fill", len(fill)))
		if err := os.Mkdir(p, 0); err != nil {
			break
		}
		fill = append(fill, p)
	}
	look := func() nfs3.Status {
		var h []byte
		var a, d nfs3.PostAttr
		return w.Lookup(&w.call, dir, "sub", &h, &a, &d)
	}
	if st := look(); st != nfs3.ErrNoSpc {
		t.Errorf("without room: status %d, want NOSPC", st)
	}
	w.exp.Quota = new(nfsexport.Quota)
	w.exp.Quota.OnFull(func(do func()) {
		for _, p := range fill {
			must(t, os.Remove(p))
		}
		do()
	})
	w.publish(t)
	if st := look(); st != nfs3.OK {
		t.Errorf("where the quota gives way: status %d", st)
	}
}
