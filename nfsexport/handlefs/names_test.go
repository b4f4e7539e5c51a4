package handlefs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// What names stand for is remembered, and what anybody does to them is seen as soon
// as attributes are: here what is done to the mounted root beside the server, as the
// host may.
func TestNamesOfOthers(t *testing.T) {
	now := time.Now()
	w := newWorld(t, t.TempDir(), Options{Now: func() time.Time { return now }}, true, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		for i := range 20 {
			write(t, fmt.Sprintf("%s/d/f%d", lower, i), "golden")
		}
	})
	d := w.lookup(t, "d")
	local := func(name string) string { return w.ov.Root + "/d/" + name }
	// seen wants LOOKUP and READDIRPLUS to say what there is.
	seen := func(when string) {
		t.Helper()
		now = now.Add(attrAge)
		entries := map[string]listed{}
		for _, e := range w.all(t, d, 7, true) {
			entries[e.name] = e
		}
		for i := range 21 {
			name := fmt.Sprintf("f%d", i)
			var h []byte
			var a, da nfs3.PostAttr
			st := w.Lookup(&w.call, d, name, &h, &a, &da)
			var is unix.Stat_t
			if unix.Lstat(local(name), &is) != nil {
				if st != nfs3.ErrNoEnt {
					t.Fatalf("%s: %s is not there, LOOKUP says %d", when, name, st)
				}
				if _, ok := entries[name]; ok {
					t.Fatalf("%s: %s is not there and listed", when, name)
				}
				continue
			}
			var byHandle nfs3.Attr
			if st != nfs3.OK || a.FileID != is.Ino || w.GetAttr(&w.call, h, &byHandle) != nfs3.OK || byHandle != a.Attr {
				t.Fatalf("%s: LOOKUP of %s says %d, file %d; it is %d", when, name, st, a.FileID, is.Ino)
			}
			if e := entries[name]; string(e.handle) != string(h) || e.attr != a {
				t.Fatalf("%s: READDIRPLUS says of %s %+v, LOOKUP %+v", when, name, e.attr, a)
			}
		}
	}
	settle := func() { // the directory's times are old enough: no wait on a clock that could be wrong
		var st unix.Stat_t
		if err := unix.Stat(w.ov.Root+"/d", &st); err != nil {
			t.Fatal(err)
		}
		for at := stamp.Of(&st); !at.Settled(stamp.Now()); {
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		settle()
		seen("settled")
		seen("again")
		f := local(fmt.Sprintf("f%d", i))
		switch i {
		case 0:
			must(os.Remove(f))
		case 1:
			must(os.Rename(local("f19"), f))
		case 2:
			must(os.Rename(f, local("f20")))
		case 3:
			must(os.Mkdir(local("f0"), 0o700))
		}
		seen("changed")
	}
	// Changes within one tick of the kernel's clock.
	for i := range 200 {
		must(os.WriteFile(local("new"), nil, 0o600))
		must(os.Rename(local("new"), local(fmt.Sprintf("f%d", 4+i%3))))
		seen("in a row")
	}
	settle()
	seen("settled")
	if w.names.Find(w.object(t, d).id, stamp.Of(w.stat(t, "d")), "f5") == nil {
		t.Error("nothing is remembered")
	}
}

// A call may be held up for any time once it has looked a name up: then the time that
// has passed says nothing of changes within the tick in which the directory changed.
// Here such a tick is a second long, and the clock a step ahead.
func TestNamesOfSlowCall(t *testing.T) {
	dir := newImage(t, "ext4", t.TempDir(), 64, "-I", "128").dir
	w := newWorld(t, dir, Options{}, true, func(lower string) { os.Mkdir(lower+"/d", 0o755) })
	d := w.lookup(t, "d")
	local := func(name string) string { return w.ov.Root + "/d/" + name }
	for try := range 20 {
		for _, name := range []string{"f", "new"} {
			write(t, local(name), name)
		}
		before := stamp.Of(w.stat(t, "d"))
		w.FS.stampTime = func() time.Time {
			if err := unix.Renameat2(unix.AT_FDCWD, local("new"), unix.AT_FDCWD, local("f"), unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
			}
			return time.Now().Add(time.Hour)
		}
		var h []byte
		var a, da nfs3.PostAttr
		st := w.Lookup(&w.call, d, "f", &h, &a, &da)
		w.FS.stampTime = stamp.Now
		if st != nfs3.OK {
			t.Fatal(st)
		}
		if before != stamp.Of(w.stat(t, "d")) {
			continue // a second began
		}
		h = h[:0]
		var is unix.Stat_t
		if err := unix.Stat(local("f"), &is); err != nil {
			t.Fatal(err)
		}
		if st := w.Lookup(&w.call, d, "f", &h, &a, &da); st != nfs3.OK || a.FileID != is.Ino {
			t.Fatalf("try %d: LOOKUP says %d, file %d; it is %d", try, st, a.FileID, is.Ino)
		}
		return
	}
	t.Fatal("every try saw a second begin")
}

// TestNamesGo: names of an export whose root is closed are let go of.
func TestNamesGo(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) { write(t, lower+"/there", "") })
	w.stampTime = func() time.Time { return time.Now().Add(time.Hour) } // all is settled
	w.lookup(t, "there")
	var h []byte
	var a, d nfs3.PostAttr
	if st := w.Lookup(&w.call, w.root, "none", &h, &a, &d); st != nfs3.ErrNoEnt {
		t.Fatal(st)
	}
	root := w.object(t, w.root).id
	known := func(name string) bool { return w.names.Find(root, stamp.Of(w.stat(t, "")), name) != nil }
	for _, name := range []string{"there", "none"} {
		if !known(name) {
			t.Errorf("%q is not remembered", name)
		}
	}
	must(t, w.Withdraw(w.exp.ID))
	for _, name := range []string{"there", "none"} {
		if known(name) {
			t.Errorf("%q is remembered when the root is closed", name)
		}
	}
}

// object gives the open object of a handle.
func (w *world) object(t *testing.T, fh []byte) *object {
	t.Helper()
	o, st := w.begin(&w.call, fh)
	if st != nfs3.OK {
		t.Fatal(st)
	}
	defer o.end()
	return o.obj
}

func (w *world) stat(t *testing.T, path string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(w.ov.Root+"/"+path, &st); err != nil {
		t.Fatal(err)
	}
	return &st
}
