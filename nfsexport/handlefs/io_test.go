package handlefs

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

func (w *world) as(uid, gid uint32, groups ...uint32) *nfs3.Call {
	return &nfs3.Call{Peer: w.call.Peer, UID: uid, GID: gid, Groups: groups}
}

func (w *world) create(t testing.TB, c *nfs3.Call, name string, mode uint32) []byte {
	t.Helper()
	var n nfs3.New
	if st := w.Create(c, w.root, name, nfs3.Guarded, &nfs3.SetAttr{SetMode: true, Mode: mode}, 0, &n); st != nfs3.OK {
		t.Fatalf("creating %q: status %d", name, st)
	}
	return n.Handle
}

// TestNeverOpened: fifos, devices and sockets are not opened, whoever asks; a
// fifo without a writer would block the server for good.
func TestNeverOpened(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	for name, typ := range map[string]nfs3.FileType{"fifo": nfs3.TypeFifo, "socket": nfs3.TypeSocket, "char": nfs3.TypeChar, "block": nfs3.TypeBlock} {
		var n nfs3.New
		if st := w.Mknod(&w.call, w.root, name, typ, 1, 5, &nfs3.SetAttr{SetMode: true, Mode: 0o666}, &n); st != nfs3.OK {
			t.Fatalf("mknod: status %d", st)
		}
		var a nfs3.PostAttr
		if _, _, st := w.Read(&w.call, n.Handle, 0, make([]byte, 10), &a); st != nfs3.ErrInval {
			t.Errorf("READ of a %s: status %d", name, st)
		}
		var wcc nfs3.Wcc
		if _, _, st := w.Write(&w.call, n.Handle, 0, []byte("x"), nfs3.FileSync, &wcc); st != nfs3.ErrInval {
			t.Errorf("WRITE to a %s: status %d", name, st)
		}
		if st := w.Commit(&w.call, n.Handle, 0, 0, &wcc); st != nfs3.ErrInval {
			t.Errorf("COMMIT of a %s: status %d", name, st)
		}
		if st := w.SetAttr(&w.call, n.Handle, &nfs3.SetAttr{SetSize: true}, nil, &wcc); st != nfs3.ErrInval {
			t.Errorf("SETATTR size of a %s: status %d", name, st)
		}
		if st := w.Create(&w.call, w.root, name, nfs3.Unchecked, &nfs3.SetAttr{SetSize: true}, 0, &n); st != nfs3.OK {
			t.Errorf("CREATE over a %s: status %d", name, st)
		}
		if st := w.Create(&w.call, w.root, name, nfs3.Exclusive, nil, 1, &n); st != nfs3.ErrExist {
			t.Errorf("exclusive CREATE over a %s: status %d", name, st)
		}
	}
	var wcc nfs3.Wcc
	var a nfs3.PostAttr
	if _, _, st := w.Read(&w.call, w.root, 0, nil, &a); st != nfs3.ErrIsDir {
		t.Errorf("READ of a directory: status %d", st)
	}
	if _, _, st := w.Write(&w.call, w.root, 0, nil, 0, &wcc); st != nfs3.ErrIsDir {
		t.Errorf("WRITE to a directory: status %d", st)
	}
}

func TestOffsets(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	f := w.create(t, &w.call, "f", 0o644)
	var wcc nfs3.Wcc
	var a nfs3.PostAttr
	for _, off := range []uint64{math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		if n, eof, st := w.Read(&w.call, f, off, make([]byte, 10), &a); n != 0 || !eof || st != nfs3.OK {
			t.Errorf("READ at %d: %d bytes, eof %v, status %d", off, n, eof, st)
		}
		if _, _, st := w.Write(&w.call, f, off, []byte("xx"), nfs3.Unstable, &wcc); st != nfs3.ErrFBig {
			t.Errorf("WRITE at %d: status %d", off, st)
		}
		if st := w.Commit(&w.call, f, off, math.MaxUint32, &wcc); st != nfs3.OK {
			t.Errorf("COMMIT at %d: status %d", off, st)
		}
		if st := w.SetAttr(&w.call, f, &nfs3.SetAttr{SetSize: true, Size: off}, nil, &wcc); st != nfs3.ErrFBig {
			t.Errorf("size %d: status %d", off, st)
		}
	}
}

// TestExecuteOnly: a program of mode 0711 is read by those who run it.
func TestExecuteOnly(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	f := w.create(t, &w.call, "f", 0o711)
	var a nfs3.PostAttr
	if _, _, st := w.Read(w.as(5, 5), f, 0, make([]byte, 10), &a); st != nfs3.OK {
		t.Errorf("READ with x: status %d", st)
	}
	g := w.create(t, &w.call, "g", 0o722)
	if _, _, st := w.Read(w.as(5, 5), g, 0, make([]byte, 10), &a); st != nfs3.ErrAcces {
		t.Errorf("READ without r and x: status %d", st)
	}
}

// TestExclusive: the same verifier again is the same call again.
func TestExclusive(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, false, nil)
	w.client().Chmod(".", 0o777)
	const verf = 0xfedcba9876543210
	var first, again, n nfs3.New
	if st := w.Create(w.as(7, 8), w.root, "f", nfs3.Exclusive, nil, verf, &first); st != nfs3.OK {
		t.Fatalf("status %d", st)
	}
	if st := w.Create(w.as(7, 8), w.root, "f", nfs3.Exclusive, nil, verf, &again); st != nfs3.OK || !bytes.Equal(first.Handle, again.Handle) {
		t.Errorf("again: status %d", st)
	}
	if st := w.Create(w.as(7, 8), w.root, "f", nfs3.Exclusive, nil, verf^1<<40, &n); st != nfs3.ErrExist {
		t.Errorf("another verifier: status %d", st)
	}
	if again.Attr.UID != 7 || again.Attr.GID != 8 || again.Attr.Mode != 0 {
		t.Errorf("attributes %+v", again.Attr)
	}
	var wcc nfs3.Wcc
	set := nfs3.SetAttr{SetMode: true, Mode: 0o644, SetAtime: nfs3.SetToServer, SetMtime: nfs3.SetToServer}
	if st := w.SetAttr(w.as(7, 8), first.Handle, &set, nil, &wcc); st != nfs3.OK {
		t.Errorf("setattr after: status %d", st)
	}
	if st := w.Create(w.as(7, 8), w.root, "f", nfs3.Exclusive, nil, verf, &n); st != nfs3.ErrExist {
		t.Errorf("after its times were set: status %d", st)
	}
}

func TestGuard(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	f := w.create(t, &w.call, "f", 0o644)
	var a nfs3.Attr
	w.GetAttr(&w.call, f, &a)
	wrong := a.Ctime
	wrong.Nsec ^= 1
	var wcc nfs3.Wcc
	if st := w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, &wrong, &wcc); st != nfs3.ErrNotSync || wcc.After.Mode != 0o644 {
		t.Errorf("a wrong guard: status %d, mode %o", st, wcc.After.Mode)
	}
	if st := w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, &a.Ctime, &wcc); st != nfs3.OK || wcc.After.Mode != 0o600 {
		t.Errorf("the right guard: status %d, mode %o", st, wcc.After.Mode)
	}
	if wcc.Before.Ctime != a.Ctime {
		t.Error("the attributes before are of another time")
	}
}

// TestWcc: attributes before and after are of the change alone, also when many
// change one directory.
func TestWcc(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	type change struct{ before, after nfs3.Time }
	var mu sync.Mutex
	var all []change
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			call := w.call
			for i := range 100 {
				var n nfs3.New
				w.Create(&call, w.root, fmt.Sprintf("f%d-%d", g, i), nfs3.Guarded, &nfs3.SetAttr{}, 0, &n)
				mu.Lock()
				all = append(all, change{n.Dir.Before.Ctime, n.Dir.After.Ctime})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// Where the clock moved on, each change begins where another ended.
	ends := map[nfs3.Time]bool{}
	for _, c := range all {
		ends[c.after] = true
	}
	missing := 0
	for _, c := range all {
		if !ends[c.before] {
			missing++
		}
	}
	if missing > 1 {
		t.Errorf("%d of %d changes begin where none ended", missing, len(all))
	}
}

// TestRemovedFileFreesItsSpace: our descriptors don't keep what has no name.
func TestRemovedFileFreesItsSpace(t *testing.T) {
	im := newImage(t, "ext4", t.TempDir(), 64)
	w := newWorld(t, im.dir, Options{}, false, nil)
	t.Cleanup(func() { w.Close() })
	var wcc, wcc2 nfs3.Wcc
	for name, remove := range map[string]func(name string) nfs3.Status{
		"remove": func(name string) nfs3.Status { return w.Remove(&w.call, w.root, name, &wcc) },
		"rename over": func(name string) nfs3.Status {
			w.create(t, &w.call, "other", 0o644)
			return w.Rename(&w.call, w.root, "other", w.root, name, &wcc, &wcc2)
		},
	} {
		f := w.create(t, &w.call, "f", 0o644)
		for i := range uint64(20) {
			if _, _, st := w.Write(&w.call, f, i<<20, make([]byte, 1<<20), nfs3.Unstable, &wcc); st != nfs3.OK {
				t.Fatalf("%s: write: status %d", name, st)
			}
		}
		w.Commit(&w.call, f, 0, 0, &wcc)
		var full, after unix.Statfs_t
		unix.Statfs(im.dir, &full)
		if st := remove("f"); st != nfs3.OK {
			t.Fatalf("%s: status %d", name, st)
		}
		run(t, "sync", "-f", im.dir) // ext4 frees at its next commit
		unix.Statfs(im.dir, &after)
		if freed := (after.Bfree - full.Bfree) * uint64(after.Bsize); after.Bfree < full.Bfree || freed < 19<<20 {
			t.Errorf("%s: %d bytes came free", name, freed)
		}
		if st := w.getattr(f); st != nfs3.ErrStale {
			t.Errorf("%s: the file still answers: status %d", name, st)
		}
		w.Remove(&w.call, w.root, "f", &wcc)
	}
}
