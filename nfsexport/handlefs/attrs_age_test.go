package handlefs

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// Attributes age, so that what the host does to a mounted root is seen.
func TestAttrsAge(t *testing.T) {
	now := time.Now()
	w := newWorld(t, t.TempDir(), Options{Now: func() time.Time { return now }}, true, func(lower string) {
		write(t, lower+"/f", "golden")
	})
	f := w.lookup(t, "f")
	mode := func() uint32 {
		var a nfs3.Attr
		if st := w.GetAttr(&w.call, f, &a); st != nfs3.OK {
			t.Fatal(st)
		}
		return a.Mode
	}
	want := []uint32{0o644, 0o644, 0o600}
	var got []uint32
	got = append(got, mode())
	must(t, os.Chmod(w.ov.Root+"/f", 0o600))
	now = now.Add(attrAge - 1)
	got = append(got, mode())
	now = now.Add(1)
	got = append(got, mode())
	if !slices.Equal(got, want) {
		t.Errorf("modes were %o, want %o", got, want)
	}
}

// Who holds an export's changes may change files beside the server: that is seen at
// once, while it is held and after.
func TestAttrsHeld(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, true, func(lower string) {
		write(t, lower+"/f", "golden")
	})
	f := w.lookup(t, "f")
	is := func(when string, want uint32) {
		t.Helper()
		var a nfs3.Attr
		if st := w.GetAttr(&w.call, f, &a); st != nfs3.OK || a.Mode != want {
			t.Errorf("%s: status %v, mode %o, want %o", when, st, a.Mode, want)
		}
	}
	is("before", 0o644)
	release, err := w.Hold(t.Context(), w.exp.ID)
	must(t, err)
	is("held", 0o644)
	must(t, os.Chmod(w.ov.Root+"/f", 0o600))
	is("held and changed", 0o600)
	must(t, os.Chmod(w.ov.Root+"/f", 0o640))
	release()
	is("released", 0o640)
}

// Reading moves a file's time when the kernel says so: in the tick in which the file
// was made, and by either of the other times.
func TestAtimes(t *testing.T) {
	now := uint32(time.Now().Unix())
	set := func(atime, mtime uint32) *nfs3.SetAttr {
		return &nfs3.SetAttr{
			SetAtime: nfs3.SetToClient, Atime: nfs3.Time{Sec: atime},
			SetMtime: nfs3.SetToClient, Mtime: nfs3.Time{Sec: mtime},
		}
	}
	x := newTruth(t, diskOf(t, "tmpfs"), 1, true)
	read := func(name string, f []byte) {
		t.Helper()
		var a nfs3.PostAttr
		if _, _, st := x.Read(&x.call, f, 0, make([]byte, 4), &a); st != nfs3.OK {
			t.Fatal(st)
		}
		x.same("in the reply to READ", name, a)
		got := nfs3.PostAttr{OK: true}
		if st := x.GetAttr(&x.call, f, &got.Attr); st != nfs3.OK {
			t.Fatal(st)
		}
		x.same("READ", name, got)
	}
	put := func(f []byte) {
		t.Helper()
		var w nfs3.Wcc
		if _, _, st := x.Write(&x.call, f, 0, []byte("data"), nfs3.Unstable, &w); st != nfs3.OK {
			t.Fatal(st)
		}
	}
	for i, s := range []*nfs3.SetAttr{nil, set(now-1000, now-2000), set(now+1000, now+2000), set(now+2000, now+1000), nil} {
		name := fmt.Sprintf("new%d", i)
		f := x.create(t, &x.call, name, 0o644)
		put(f)
		if s != nil {
			var w nfs3.Wcc
			if st := x.SetAttr(&x.call, f, s, nil, &w); st != nfs3.OK {
				t.Fatal(st)
			}
		}
		for range 3 {
			read(name, f)
			for was := stamp.Now(); stamp.Now().Equal(was); {
				unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
			}
		}
	}
	// A read of nothing says nothing of what a read does.
	f := x.create(t, &x.call, "empty-read", 0o644)
	put(f)
	var w nfs3.Wcc
	if st := x.SetAttr(&x.call, f, set(now-1000, now-500), nil, &w); st != nfs3.OK {
		t.Fatal(st)
	}
	var a nfs3.PostAttr
	if n, eof, st := x.Read(&x.call, f, 0, nil, &a); n != 0 || eof || st != nfs3.OK {
		t.Fatal(n, eof, st)
	}
	read("empty-read", f)
	// A golden file's does not move, until it is written to.
	f = x.lookup(t, "dir/a")
	read("dir/a", f)
	read("dir/a", f)
	put(f)
	read("dir/a", f)
}
