package handlefs

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// goldenWorld has a golden directory d, of which nobody has looked up a name.
func goldenWorld(t *testing.T, base string) *world {
	return newWorld(t, base, Options{}, true, func(lower string) {
		fillGolden(t, lower)
		must(t, unix.Mknod(lower+"/d/hidden", unix.S_IFCHR, 0))
	})
}

func fillGolden(t *testing.T, lower string) {
	must(t, errors.Join(os.MkdirAll(lower+"/d/sub", 0o755), os.Mkdir(lower+"/e", 0o755), os.Mkdir(lower+"/f", 0o755)))
	for i := range 2 * listing.RunLen {
		write(t, fmt.Sprintf("%s/d/f%02d", lower, i), "golden")
	}
	write(t, lower+"/f/a", "golden")
	must(t, errors.Join(os.Symlink("f00", lower+"/d/link"), unix.Mkfifo(lower+"/d/fifo", 0o600)))
	must(t, errors.Join(os.Link(lower+"/d/f01", lower+"/e/other"), os.Link(lower+"/d/f02", lower+"/e/another")))
}

// TestGolden: what is told of a golden directory by its layer is what the overlay says,
// on each kind of file system, and when an entry of it was copied up by another name.
func TestGolden(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			w := goldenWorld(t, diskOf(t, fsType))
			defer w.Close()
			d := w.lookup(t, "d")
			for _, when := range []string{"golden", "another name was written to", "a handle was written to", "in the upper"} {
				told := map[string]listed{}
				for _, e := range w.all(t, d, 1000, true) {
					told[e.name] = e
				}
				for name, e := range told {
					var k, kernel fhandle.Key
					fhandle.Parse(e.handle, &k)
					o, st := w.begin(&w.call, d)
					if st != nfs3.OK {
						t.Fatal(st)
					}
					var n rawfs.Name
					n.Set(name)
					if e := o.keyAt(o.obj.fd, &n); e != 0 {
						t.Errorf("%s: the handle of %q: %v", when, name, e)
					}
					kernel = o.k
					o.end()
					var is unix.Stat_t
					var want nfs3.Attr
					must(t, unix.Lstat(w.ov.Root+"/d/"+name, &is))
					(&op{exp: &export{Export: w.exp}}).attr(&is, &want)
					want.Used = e.attr.Used // it moves as the kernel writes out
					if k != kernel || !e.attr.OK || e.attr.Attr != want {
						t.Errorf("%s: %q has handle %x and %+v; the kernel says %x and %+v", when, name, k, e.attr, kernel, want)
					}
					_, called := w.FS.shown.Find((*w.table.Load())[w.exp.ID].root.image, &k)
					shown := called == name
					if is := name[0] == 'f' && name != "fifo" || name == "link"; when == "golden" && fsType != "btrfs" && shown != is {
						t.Errorf("%q was told by its layer: %v", name, shown)
					}
				}
				if len(told) != 2*listing.RunLen+5 {
					t.Errorf("%s: %d entries", when, len(told))
				}
				if when == "golden" && fsType != "btrfs" {
					w.nextIsTold(t, d)
				}
				switch when {
				case "golden":
					w.putText(t, w.lookup(t, "e/other"), "more")
				case "another name was written to":
					w.putText(t, told["f02"].handle, "more of it")
				case "a handle was written to":
					w.create(t, &w.call, "new", 0o600)
					w.putText(t, w.lookup(t, "d/f03"), "more")
				}
			}
		})
	}
}

// putText writes to a file.
func (w *world) putText(t *testing.T, fh []byte, data string) {
	t.Helper()
	var wcc nfs3.Wcc
	if _, _, st := w.Write(&w.call, fh, 3, []byte(data), nfs3.Unstable, &wcc); st != nfs3.OK {
		t.Fatal(st)
	}
}

// TestGoldenIsNamed: what is changed by a handle that a listing has told is copied up with
// its name, though nobody has looked that up.
func TestGoldenIsNamed(t *testing.T) {
	w := goldenWorld(t, t.TempDir())
	told := map[string][]byte{}
	for _, e := range w.all(t, w.lookup(t, "d"), 1000, true) {
		told[e.name] = e.handle
	}
	var wcc nfs3.Wcc
	var a nfs3.PostAttr
	w.putText(t, told["f10"], "more")
	if st := w.SetAttr(&w.call, told["f11"], &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc); st != nfs3.OK {
		t.Error(st)
	}
	if st := w.SetAttr(&w.call, told["f12"], &nfs3.SetAttr{SetSize: true}, nil, &wcc); st != nfs3.OK {
		t.Error(st)
	}
	if st := w.SetAttr(&w.call, told["link"], &nfs3.SetAttr{SetUID: true, UID: 1}, nil, &wcc); st != nfs3.OK {
		t.Error(st)
	}
	if st := w.Link(&w.call, told["f13"], w.root, "linked", &a, &wcc); st != nfs3.OK {
		t.Error(st)
	}
	for _, name := range []string{"d/f10", "d/f11", "d/f12", "d/f13", "d/link", "linked"} {
		if _, err := os.Lstat(w.ov.Upper + "/" + name); err != nil {
			t.Errorf("the upper has no such name: %v", err)
		}
	}
}

// TestIndexed: what was copied up is known of a root, and what was not; and little is kept for
// that, as each root has it.
func TestIndexed(t *testing.T) {
	const files, copied = 400, 300
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		must(t, os.Mkdir(lower+"/d", 0o755))
		for i := range files {
			write(t, fmt.Sprintf("%s/d/f%03d", lower, i), "golden")
		}
	})
	d := w.lookup(t, "d")
	w.all(t, d, 1000, true)
	if x := (*w.table.Load())[w.exp.ID].root.indexed.Load(); x == nil || len(x.sums) != 0 {
		t.Errorf("of a root that nobody wrote to is known: %+v", x) // asked of each entry
	}
	var keys [files]fhandle.Key
	for i := range files {
		var a, da nfs3.PostAttr
		var h []byte
		name := fmt.Sprintf("f%03d", i)
		if i < copied {
			must(t, os.Chmod(w.ov.Root+"/d/"+name, 0o600))
		}
		if st := w.Lookup(&w.call, d, name, &h, &a, &da); st != nfs3.OK {
			t.Fatal(st)
		}
		fhandle.Parse(h, &keys[i])
	}
	o, st := w.begin(&w.call, d)
	if st != nfs3.OK {
		t.Fatal(st)
	}
	defer o.end()
	var x *indexed
	// One for each doubling of the sums, and for what is read into.
	if n := testing.AllocsPerRun(3, func() { o.exp.root.indexed.Store(nil); x = o.indexed() }); n > 16 || x == nil {
		t.Fatalf("%v allocations for an index that is known: %v", n, x != nil)
	}
	for i := range keys {
		if x.has(&keys[i]) != (i < copied) {
			t.Errorf("file %d: copied up: %v", i, x.has(&keys[i]))
		}
	}
	if size := cap(x.sums) * 8; size > maxIndexed*8 {
		t.Errorf("%d bytes are kept", size)
	}
}
