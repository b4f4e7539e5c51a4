package handlefs

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/gate"
	"rubus/nfsexport/nfs3"
)

// TestPanic: a defect costs the call that meets it and no other. Whatever the call
// held is free after it: directories, shares of the quota, the gate and the root.
func TestPanic(t *testing.T) {
	full := t.TempDir()
	must(t, unix.Mount("tmpfs", full, "tmpfs", 0, "size=1m,mode=0755"))
	t.Cleanup(func() { unix.Unmount(full, unix.MNT_DETACH) })
	armed := false
	defect := func() {
		if armed {
			panic("a defect")
		}
	}
	w := newWorld(t, full, Options{Observe: func(Event) { defect() }, Rebind: func(nfsexport.ID, netip.AddrPort) bool { defect(); return false }}, true, func(lower string) {
		must(t, os.MkdirAll(filepath.Join(lower, "dir/golden"), 0o755))
		must(t, os.Mkdir(filepath.Join(lower, "other"), 0o755))
		write(t, filepath.Join(lower, "dir/f"), "golden")
		write(t, filepath.Join(lower, "dir/g"), "golden")
	})
	q := new(nfsexport.Quota)
	q.Limit(nfsexport.Space{Files: 1})
	q.OnFull(func(func()) { defect() })
	w.exp.Quota = q
	w.publish(t)
	dir, f := w.lookup(t, "dir"), w.lookup(t, "dir/f")
	if !q.Take(0, 1) {
		t.Fatal("no room")
	}
	var n nfs3.New
	var wcc, wcc2 nfs3.Wcc
	var a nfs3.PostAttr
	c := &w.call
	stranger := nfs3.Call{Peer: netip.MustParseAddrPort("192.0.2.99:700")}
	for name, call := range map[string]func() nfs3.Status{
		"GETATTR of a stranger": func() nfs3.Status { return w.GetAttr(&stranger, f, &nfs3.Attr{}) },
		"SETATTR":               func() nfs3.Status { return w.SetAttr(c, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc) },
		"WRITE":                 func() nfs3.Status { _, _, st := w.Write(c, f, 0, []byte("x"), nfs3.Unstable, &wcc); return st },
		"CREATE":                func() nfs3.Status { return w.Create(c, dir, "new", nfs3.Guarded, nil, 0, &n) },
		"MKDIR":                 func() nfs3.Status { return w.Mkdir(c, dir, "new", nil, &n) },
		"SYMLINK":               func() nfs3.Status { return w.Symlink(c, dir, "new", "text", nil, &n) },
		"MKNOD":                 func() nfs3.Status { return w.Mknod(c, dir, "new", nfs3.TypeFifo, 0, 0, nil, &n) },
		"LINK":                  func() nfs3.Status { return w.Link(c, f, dir, "new", &a, &wcc) },
		"RENAME":                func() nfs3.Status { return w.Rename(c, w.root, "other", w.root, "new", &wcc, &wcc2) },
		"RENAME in one":         func() nfs3.Status { return w.Rename(c, dir, "f", dir, "new", &wcc, &wcc2) },
		"REMOVE on a full disk": func() nfs3.Status {
			q.Limit(nfsexport.Space{})
			defer q.Limit(nfsexport.Space{Files: 1})
			file, err := os.Create(filepath.Join(full, "filler"))
			must(t, err)
			defer os.Remove(file.Name())
			for b := make([]byte, 4096); err == nil; {
				_, err = file.Write(b)
			}
			file.Close()
			return w.Remove(c, dir, "g", &wcc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var what any
			func() {
				defer func() { what, armed = recover(), false }()
				// Told once a minute: a new quota tells at once.
				fresh := new(nfsexport.Quota)
				fresh.Limit(q.Max())
				fresh.OnFull(func(func()) { defect() })
				fresh.Take(0, 1)
				w.exp.Quota, q = fresh, fresh
				w.publish(t)
				armed = true
				if st := call(); st != nfs3.OK {
					what = fmt.Sprint("status ", st)
				}
			}()
			if what != "a defect" {
				t.Fatalf("it ended with %v: this shows nothing", what)
			}
			e := (*w.table.Load())[w.exp.ID]
			ended, cancel := context.WithCancel(t.Context())
			cancel() // holding waits for nobody
			for what, g := range map[string]*gate.Gate{"root": e.root.calls, "gate": e.gate} {
				if err := g.Hold(ended); err != nil {
					t.Errorf("a call is inside the %s: %v", what, err)
					continue
				}
				g.Open()
			}
			if _, calm := e.tree.Mark(0, nil); !calm {
				t.Error("a change runs")
			}
			for _, h := range [][]byte{w.root, dir, f} {
				obj := w.object(t, h)
				if !obj.dir.TryLock() {
					t.Error("a directory is locked")
				} else {
					obj.dir.Unlock()
				}
				if !obj.share.TryLock() {
					t.Error("a share is locked")
				} else {
					obj.share.Unlock()
				}
				if n := obj.refs.Load(); n != 1 {
					t.Errorf("an object is held by %d", n-1)
				}
			}
		})
	}
}
