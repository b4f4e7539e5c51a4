package handlefs

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

// newLayered is newWorld over n layers of random trees, each with directories of its
// own and some that it shares with others.
func newLayered(t testing.TB, n int, rng *rand.Rand) *world {
	t.Helper()
	return newLayeredIn(t, n, rng, "")
}

// newLayeredIn has the upper in a directory, on another file system than the layers.
func newLayeredIn(t testing.TB, n int, rng *rand.Rand, upper string) *world {
	t.Helper()
	base := t.TempDir()
	w := &world{call: nfs3.Call{Peer: board}}
	w.FS = newFS(t, Options{})
	for i := range n {
		dir := filepath.Join(base, fmt.Sprint("l", i))
		w.exp.Layers = append(w.exp.Layers, dir)
		for j := range 12 {
			parts := make([]string, 1+rng.IntN(4))
			for k := range parts {
				parts[k] = string(rune('a' + rng.IntN(5)))
			}
			p := filepath.Join(dir, filepath.Join(parts...))
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(p, fmt.Sprintf("f%d", j%3)), fmt.Sprint(i, j))
		}
	}
	w.layered(t, base, upper)
	return w
}

// layered mounts the world's layers and publishes them.
func (w *world) layered(t testing.TB, base, upper string) {
	t.Helper()
	w.ov = &nfstest.Overlay{Root: filepath.Join(base, "root"), More: ",redirect_dir=on"}
	if upper != "" {
		base, w.ov.More = upper, ",redirect_dir=on,xino=on"
	}
	w.ov.Upper, w.ov.Work = filepath.Join(base, "upper"), filepath.Join(base, "work")
	for _, d := range []string{w.ov.Upper, w.ov.Work, w.ov.Root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range w.exp.Layers {
		w.ov.Lower = strings.TrimSuffix(l+":"+w.ov.Lower, ":")
	}
	w.ov.Mount(t)
	t.Cleanup(func() { unix.Unmount(w.ov.Root, unix.MNT_DETACH) })
	w.exp = nfsexport.Export{
		ID: 0x1122334455667788, Name: "5b154510", Path: "/5b154510", Dir: w.ov.Root, Upper: w.ov.Upper, Index: filepath.Join(w.ov.Work, "index"),
		Layers: w.exp.Layers, State: nfsexport.Ready, Client: board.Addr(), Async: true, Activity: new(nfsexport.Activity),
	}
	w.publish(t)
	t.Cleanup(func() { w.Close() })
}

// remount has the kernel forget what it knows of the root's names.
func (w *world) remount(t testing.TB) {
	t.Helper()
	if err := w.Withdraw(w.exp.ID); err != nil {
		t.Fatal(err)
	}
	w.ov.Unmount(t)
	w.ov.Mount(t)
	w.publish(t)
}

// seen is a file that was looked at: its path, and the handle by each way to it.
type seen struct {
	path   string
	handle []byte
	ino    uint64
	dir    bool
}

// walk looks at all there is as a board does: READDIRPLUS, LOOKUP of each name and of
// "..", GETATTR, ACCESS and READ.
func (w *world) walk(t testing.TB) (out []seen) {
	t.Helper()
	var down func(path string, parent, dir []byte)
	down = func(path string, parent, dir []byte) {
		for _, l := range w.all(t, dir, 7, true) {
			var h []byte
			var a, d nfs3.PostAttr
			if st := w.Lookup(&w.call, dir, l.name, &h, &a, &d); st != nfs3.OK {
				t.Fatalf("looking up %q in %q: status %d", l.name, path, st)
			}
			want := h
			switch l.name {
			case ".":
				want = dir
			case "..":
				want = parent
			}
			if !bytes.Equal(l.handle, want) || !bytes.Equal(h, want) || a.FileID != l.attr.FileID {
				t.Fatalf("%q in %q: handles %x listed, %x looked up, want %x", l.name, path, l.handle, h, want)
			}
			if l.name == "." || l.name == ".." {
				continue
			}
			s := seen{filepath.Join(path, l.name), h, a.FileID, a.Type == nfs3.TypeDir}
			out = append(out, s)
			var p nfs3.PostAttr
			if _, st := w.Access(&w.call, h, 0x3f, &p); st != nfs3.OK {
				t.Fatalf("access to %q: status %d", s.path, st)
			}
			if s.dir {
				down(s.path, dir, h)
			} else if _, _, st := w.Read(&w.call, h, 0, make([]byte, 100), &p); st != nfs3.OK {
				t.Fatalf("reading %q: status %d", s.path, st)
			}
		}
	}
	down("", w.root, w.root)
	return out
}

// written says what is in the upper and in its index.
func (w *world) written(t testing.TB) (out []string) {
	t.Helper()
	for _, dir := range []string{w.ov.Upper, w.exp.Index} {
		err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			if p != dir {
				out = append(out, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// hold checks that all handles are those of the files they were given for.
func (w *world) hold(t testing.TB, all []seen) {
	t.Helper()
	for _, s := range all {
		var a nfs3.Attr
		if st := w.GetAttr(&w.call, s.handle, &a); st != nfs3.OK || a.FileID != s.ino {
			t.Errorf("%q by its handle: status %d, fileid %d, was %d", s.path, st, a.FileID, s.ino)
		}
	}
}

// TestReadingWritesNothing: a board that looks at every file of its image has written
// nothing, over however many layers; the handles that it got are those of the kernel,
// and good after a restart of the server and of the machine.
func TestReadingWritesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		layers int
		upper  string
	}{
		"two layers":                      {2, ""},
		"three layers":                    {3, ""},
		"sixty layers":                    {60, ""},
		"an upper on another file system": {3, diskOf(t, "tmpfs")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLayeredIn(t, c.layers, rand.New(rand.NewPCG(1, uint64(c.layers))), c.upper)
			w.exp.Quota = new(nfsexport.Quota)
			w.exp.Quota.Limit(nfsexport.Space{Files: 1})
			w.publish(t)
			all := w.walk(t)
			before := w.FS
			w.FS = newFS(t, Options{})
			w.publish(t)
			w.hold(t, all)
			before.Close()
			w.remount(t)
			w.hold(t, all)
			w.walk(t)
			if got := w.written(t); len(got) > 0 {
				t.Errorf("a board that only reads has written %d files: %q", len(got), got)
			}
			if got := w.exp.Quota.Used(); got != (nfsexport.Space{}) {
				t.Errorf("it is said to have %+v", got)
			}
			must(t, w.Withdraw(w.exp.ID))
			if n := len(w.layers.m); n > 0 {
				t.Errorf("%d stacks of layers are mounted after the last export is gone", n)
			}
			w.publish(t)
			w.asKernel(t, all)
			if got := w.written(t); len(got) == 0 {
				t.Error("the kernel copied nothing up: this test shows nothing")
			}
			w.hold(t, all)
			w.remount(t)
			w.hold(t, all)
		})
	}
}

// asKernel checks the handles against those that the kernel makes, at a price.
func (w *world) asKernel(t testing.TB, all []seen) {
	t.Helper()
	for _, s := range all {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(w.ov.Root, s.path), 0)
		if err != nil {
			t.Fatal(err)
		}
		var k fhandle.Key
		if fhandle.Parse(s.handle, &k); !bytes.Equal(k.Kernel(), h.Bytes()) {
			t.Errorf("%q has the handle %x, the kernel says %x", s.path, k.Kernel(), h.Bytes())
		}
	}
}

// TestHandlesOverChanges: whatever a board does to its directories, the handles that it
// got before stay good, over a remount too, and are those of the kernel. Moved
// directories are what the kernel copies up for.
func TestHandlesOverChanges(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(seed)))
			w := newLayered(t, 2+seed%3, rng)
			if seed%2 == 1 {
				w.rebased(t, rng)
			}
			moved := 0
			for round := range 4 {
				all := w.walk(t)
				gone := map[string]bool{}
				for i := range 8 {
					moved += w.scramble(t, rng, fmt.Sprintf("n%d-%d", round, i), gone)
				}
				var left []seen
				for _, s := range all {
					if !gone[string(s.handle)] {
						left = append(left, s)
					}
				}
				w.hold(t, left)
				w.remount(t)
				w.hold(t, left)
				w.asKernel(t, w.walk(t))
			}
			if moved == 0 {
				t.Error("no directory was moved")
			}
		})
	}
}

// rebased makes the upper one that a rebase or a restore has made: some of its
// directories are merged with those of the layers by their names alone.
func (w *world) rebased(t testing.TB, rng *rand.Rand) {
	t.Helper()
	dirs := w.walk(t)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Withdraw(w.exp.ID))
	w.ov.Unmount(t)
	for range 5 {
		if s := dirs[rng.IntN(len(dirs))]; s.dir {
			must(os.MkdirAll(filepath.Join(w.ov.Upper, s.path), 0o755))
		}
	}
	w.ov.Mount(t)
	w.publish(t)
}

// scramble does one thing that boards do to directories. What is removed is noted in
// gone. It gives the number of directories moved.
func (w *world) scramble(t testing.TB, rng *rand.Rand, fresh string, gone map[string]bool) int {
	t.Helper()
	var dirs []seen
	for _, s := range append(w.walk(t), seen{"", w.root, 0, true}) {
		if s.dir {
			dirs = append(dirs, s)
		}
	}
	var wcc, wcc2 nfs3.Wcc
	in, to := dirs[rng.IntN(len(dirs))], dirs[rng.IntN(len(dirs))]
	kids := w.all(t, in.handle, 100, true)[2:]
	switch {
	case len(kids) == 0 || rng.IntN(5) == 0:
		name := fresh
		if in.path != "" && rng.IntN(2) == 0 {
			name = "a" // where a golden one may be, or have been
		}
		var n nfs3.New
		if st := w.Mkdir(&w.call, in.handle, name, nil, &n); st != nfs3.OK && st != nfs3.ErrExist {
			t.Fatalf("mkdir %q in %q: status %d", name, in.path, st)
		}
	case rng.IntN(4) == 0:
		kid := kids[rng.IntN(len(kids))]
		st := w.Remove(&w.call, in.handle, kid.name, &wcc)
		if kid.attr.Type == nfs3.TypeDir {
			st = w.Rmdir(&w.call, in.handle, kid.name, &wcc)
		}
		if st == nfs3.OK {
			gone[string(kid.handle)] = true
		}
	default:
		kid := kids[rng.IntN(len(kids))]
		name := fresh
		if rng.IntN(3) == 0 {
			name = kid.name
		}
		var old []byte
		var a, d nfs3.PostAttr
		w.Lookup(&w.call, to.handle, name, &old, &a, &d)
		st := w.Rename(&w.call, in.handle, kid.name, to.handle, name, &wcc, &wcc2)
		if st == nfs3.OK && old != nil && !bytes.Equal(old, kid.handle) {
			gone[string(old)] = true
		}
		if st == nfs3.OK && kid.attr.Type == nfs3.TypeDir {
			return 1
		}
	}
	return 0
}
