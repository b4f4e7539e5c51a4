package handlefs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// TestLayerPermissions: who may read a golden file is said by what the overlay has now, not
// by the layer that it was read from: by copy and from its pages, whoever changed it.
func TestLayerPermissions(t *testing.T) {
	mode := func(m uint32) nfs3.SetAttr { return nfs3.SetAttr{SetMode: true, Mode: m} }
	for _, tc := range []struct {
		name string
		from os.FileMode
		set  nfs3.SetAttr
		host func(path string) error // does it instead
		want nfs3.Status             // to user 7, after it
	}{
		{name: "closed", from: 0o644, set: mode(0o600), want: nfs3.ErrAcces},
		{name: "opened", from: 0o600, set: mode(0o604)},
		{name: "given to him", from: 0o600, set: nfs3.SetAttr{SetUID: true, UID: 7}},
		{name: "given to his group", from: 0o640, set: nfs3.SetAttr{SetGID: true, GID: 7}},
		{name: "given to a group that may not", from: 0o604, set: nfs3.SetAttr{SetGID: true, GID: 7}, want: nfs3.ErrAcces},
		{name: "closed on the host", from: 0o644, host: func(path string) error { return os.Chmod(path, 0o600) }, want: nfs3.ErrAcces},
		{name: "given on the host", from: 0o604, host: func(path string) error { return os.Chown(path, 0, 7) }, want: nfs3.ErrAcces},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := time.Now()
			text := strings.Repeat(goldenText, 10) // large enough to be sent from its pages
			w := newWorld(t, t.TempDir(), Options{Now: func() time.Time { return now }}, true, func(lower string) {
				write(t, filepath.Join(lower, "f"), text)
				must(t, os.Chmod(filepath.Join(lower, "f"), tc.from))
			})
			settle()
			fh := w.lookup(t, "f")
			spliced := false
			read := func(uid uint32, large bool) nfs3.Status {
				call := w.as(uid, uid)
				call.Splice = func(fd int, off int64, n int) int {
					spliced = true
					return n
				}
				n := 100
				if large {
					n = len(text)
				}
				var a nfs3.PostAttr
				_, _, st := w.Read(call, fh, 0, make([]byte, n), &a)
				return st
			}
			if read(0, true) != nfs3.OK || !spliced || !w.inLayer(t, fh) {
				t.Fatal("not read from its layer")
			}
			before := nfs3.OK
			if tc.from&0o004 == 0 {
				before = nfs3.ErrAcces
			}
			for _, large := range []bool{false, true} {
				if st := read(7, large); st != before {
					t.Errorf("before: %s, want %s", st, before)
				}
			}
			if tc.host != nil {
				must(t, tc.host(w.ov.Root+"/f"))
				now = now.Add(attrAge)
			} else {
				var c nfs3.Wcc
				if st := w.SetAttr(&w.call, fh, &tc.set, nil, &c); st != nfs3.OK {
					t.Fatal(st)
				}
			}
			for _, large := range []bool{false, true} {
				if st := read(7, large); st != tc.want {
					t.Errorf("after: %s, want %s", st, tc.want)
				}
			}
			var st unix.Stat_t
			must(t, unix.Stat(w.ov.Lower+"/f", &st))
			if os.FileMode(st.Mode&0o777) != tc.from || st.Uid != 0 || st.Gid != 0 {
				t.Error("the layer's file has changed")
			}
		})
	}
}

// TestLayerNames: a golden file whose name another golden one takes, and one that is
// removed, are read by no handle any more, though their layer has them; one that has other
// names is, and is what was written to it by any of them.
func TestLayerNames(t *testing.T) {
	w := layerWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, "f", "gone", "over", "moved")
	h := map[string][]byte{}
	for _, name := range []string{"f", "link", "gone", "over", "moved"} {
		h[name] = w.lookup(t, name)
		if got, _ := w.read(t, h[name]); got != goldenText || !w.inLayer(t, h[name]) {
			t.Fatalf("%s is not read from its layer", name)
		}
	}
	stale := func(name string) {
		t.Helper()
		var a nfs3.PostAttr
		if n, _, st := w.Read(&w.call, h[name], 0, make([]byte, 100), &a); st != nfs3.ErrStale {
			t.Errorf("%s: %s, %d bytes", name, st, n)
		}
	}
	is := func(name, want string, layer bool) {
		t.Helper()
		if got, _ := w.read(t, h[name]); got != want {
			t.Errorf("%s has %.20q", name, got)
		}
		if obj := w.object(t, h[name]); obj.inLayer.Load() != layer {
			t.Errorf("%s: read from its layer: %v", name, !layer)
		}
	}
	var c, c2 nfs3.Wcc
	if st := w.Remove(&w.call, w.root, "gone", &c); st != nfs3.OK {
		t.Fatal(st)
	}
	stale("gone")
	if st := w.Rename(&w.call, w.root, "moved", w.root, "over", &c, &c2); st != nfs3.OK {
		t.Fatal(st)
	}
	stale("over")
	is("moved", goldenText, false)
	if st := w.Remove(&w.call, w.root, "f", &c); st != nfs3.OK {
		t.Fatal(st)
	}
	is("link", goldenText, false)
	if st := w.cut(h["link"], 4); st != nfs3.OK {
		t.Fatal(st)
	}
	is("f", "gold", false) // the handle is of both names
	if st := w.Remove(&w.call, w.root, "link", &c); st != nfs3.OK {
		t.Fatal(st)
	}
	stale("link")
	stale("f")
}
