package handlefs

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// TestExclusiveAcrossKill: the verifier lies with the file, so a create that is
// sent again to a server that knows nothing of the first is still the same call.
func TestExclusiveAcrossKill(t *testing.T) {
	im := newImage(t, "ext4", t.TempDir(), 100)
	w := newWorld(t, im.dir, Options{Seed: 1}, false, nil)
	t.Cleanup(func() { w.Close() })
	const verf = 0x8123456789abcdef
	var first nfs3.New
	if st := w.Create(&w.call, w.root, "f", nfs3.Exclusive, nil, verf, &first); st != nfs3.OK {
		t.Fatalf("status %d", st)
	}
	again := func(fs *FS, root []byte) {
		t.Helper()
		var n, other nfs3.New
		if st := fs.Create(&w.call, root, "f", nfs3.Exclusive, nil, verf, &n); st != nfs3.OK || !bytes.Equal(n.Handle, first.Handle) {
			t.Errorf("again: status %d, handle %x, was %x", st, n.Handle, first.Handle)
		}
		for _, v := range []uint64{verf ^ 1, verf ^ 1<<32, 0} {
			if st := fs.Create(&w.call, root, "f", nfs3.Exclusive, nil, v, &other); st != nfs3.ErrExist {
				t.Errorf("verifier %x: status %d", v, st)
			}
		}
	}
	fs := newFS(t, Options{Seed: 2}) // the first one is not asked to stop
	if err := fs.Publish(w.exp); err != nil {
		t.Fatal(err)
	}
	again(fs, w.root)

	ov := im.cutPower(t, "ext4")
	after := newFS(t, Options{Seed: 3})
	x := w.exp
	x.Dir = ov.Root
	if err := after.Publish(x); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { after.Close() })
	again(after, w.root)
}

// TestAfterFailedCommit: once data is lost, every later reply has another
// verifier, so that a COMMIT that says OK is not taken for one of the lost data;
// and what is written after it is as safe as ever.
func TestAfterFailedCommit(t *testing.T) {
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
	im := newImage(t, "ext4", small, 256)
	w := newWorld(t, im.dir, Options{Seed: 5}, true, nil)
	t.Cleanup(func() { w.Close() })
	other := w.create(t, &w.call, "other", 0o644)
	f := w.create(t, &w.call, "f", 0o644)
	old := w.WriteVerifier(f)
	var wcc nfs3.Wcc
	data := bytes.Repeat([]byte("x"), nfs3.MaxIO)
	for i := range uint64(48) {
		if _, _, st := w.Write(&w.call, f, i*nfs3.MaxIO, data, nfs3.Unstable, &wcc); st != nfs3.OK {
			t.Fatalf("write: status %d", st)
		}
	}
	if st := w.Commit(&w.call, f, 0, 0, &wcc); st != nfs3.ErrIO {
		t.Fatalf("the first commit: status %d", st)
	}
	now := w.WriteVerifier(f)
	for what, fh := range map[string][]byte{"the file": f, "another file": other, "the root": w.root} {
		if v := w.WriteVerifier(fh); v == old || v != now {
			t.Errorf("%s: verifier %x, before the loss %x, after it %x", what, v, old, now)
		}
	}
	// The disk is told of no more room only for what is lost: it is OK again
	// once that is gone, and with a verifier that nothing was written under.
	for range 3 {
		st := w.Commit(&w.call, f, nfs3.MaxIO, nfs3.MaxIO, &wcc)
		if v := w.WriteVerifier(f); st != nfs3.ErrIO && (st != nfs3.OK || v == old) {
			t.Errorf("a later commit: status %d, verifier %x", st, v)
		}
	}
}

// TestReadOnly: a root that cannot be written to is ROFS to every change, and is
// read.
func TestReadOnly(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, false, func(lower string) { write(t, lower+"/f", "golden") })
	if err := w.Withdraw(w.exp.ID); err != nil {
		t.Fatal(err)
	}
	w.ov.Unmount(t)
	opts := "lowerdir=" + w.ov.Lower + ",upperdir=" + w.ov.Upper + ",workdir=" + w.ov.Work + ",nfs_export=on,index=on"
	if err := unix.Mount("overlay", w.ov.Root, "overlay", unix.MS_RDONLY, opts); err != nil {
		t.Fatal(err)
	}
	w.publish(t)
	f := w.lookup(t, "f")
	var n nfs3.New
	var wcc, wcc2 nfs3.Wcc
	var a nfs3.PostAttr
	for what, st := range map[string]nfs3.Status{
		"create":  w.Create(&w.call, w.root, "n", nfs3.Guarded, &nfs3.SetAttr{}, 0, &n),
		"mkdir":   w.Mkdir(&w.call, w.root, "n", &nfs3.SetAttr{}, &n),
		"symlink": w.Symlink(&w.call, w.root, "n", "x", &nfs3.SetAttr{}, &n),
		"mknod":   w.Mknod(&w.call, w.root, "n", nfs3.TypeFifo, 0, 0, &nfs3.SetAttr{}, &n),
		"remove":  w.Remove(&w.call, w.root, "f", &wcc),
		"rename":  w.Rename(&w.call, w.root, "f", w.root, "g", &wcc, &wcc2),
		"link":    w.Link(&w.call, f, w.root, "g", &a, &wcc),
		"chmod":   w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true}, nil, &wcc),
		"size":    w.SetAttr(&w.call, f, &nfs3.SetAttr{SetSize: true}, nil, &wcc),
		"now":     w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMtime: nfs3.SetToServer}, nil, &wcc),
	} {
		if st != nfs3.ErrROFS {
			t.Errorf("%s: status %d", what, st)
		}
	}
	if _, _, st := w.Write(&w.call, f, 0, []byte("x"), nfs3.Unstable, &wcc); st != nfs3.ErrROFS {
		t.Errorf("write: status %d", st)
	}
	if !holds("f", "golden")(w.client()) {
		t.Error("it cannot be read")
	}
}

// TestTooManyLinks: one more than ext4 allows is MLINK.
func TestTooManyLinks(t *testing.T) {
	im := newImage(t, "ext4", t.TempDir(), 200)
	w := newWorld(t, im.dir, Options{}, false, nil)
	t.Cleanup(func() { w.Close() })
	f := w.create(t, &w.call, "f", 0o644)
	for i := range linkMax - 2 {
		if err := os.Link(w.ov.Root+"/f", fmt.Sprintf("%s/l%05d", w.ov.Root, i)); err != nil {
			t.Fatal(err)
		}
	}
	var a nfs3.PostAttr
	var wcc nfs3.Wcc
	if st := w.Link(&w.call, f, w.root, "last", &a, &wcc); st != nfs3.OK || a.Nlink != linkMax {
		t.Errorf("the last link: status %d, %d links", st, a.Nlink)
	}
	if st := w.Link(&w.call, f, w.root, "more", &a, &wcc); st != nfs3.ErrMLink {
		t.Errorf("one more: status %d", st)
	}
}
