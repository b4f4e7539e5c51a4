package handlefs

import (
	"bytes"
	"testing"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
)

func TestHandleFlippedBits(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	var a nfs3.Attr
	for i := range len(w.root) * 8 {
		fh := bytes.Clone(w.root)
		fh[i/8] ^= 1 << (i % 8)
		if st := w.GetAttr(&w.call, fh, &a); st != nfs3.ErrBadHandle {
			t.Fatalf("bit %d flipped: status %d", i, st)
		}
	}
	for n := range len(w.root) {
		if st := w.GetAttr(&w.call, w.root[:n], &a); st != nfs3.ErrBadHandle {
			t.Fatalf("cut to %d bytes: status %d", n, st)
		}
	}
	if st := w.GetAttr(&w.call, append(bytes.Clone(w.root), 0), &a); st != nfs3.ErrBadHandle {
		t.Errorf("a byte more: status %d", st)
	}
	if st := w.GetAttr(&w.call, w.root, &a); st != nfs3.OK {
		t.Errorf("the handle itself: status %d", st)
	}
}

// TestHandleOfAnotherKey: what another server sealed is nothing here.
func TestHandleOfAnotherKey(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, nil)
	other := fhandle.NewSealer([32]byte{9})
	var k fhandle.Key
	fhandle.Parse(w.root, &k)
	var wire [nfs3.MaxHandle]byte
	n := other.Seal(&k, &wire)
	var a nfs3.Attr
	if st := w.GetAttr(&w.call, wire[:n], &a); st != nfs3.ErrBadHandle {
		t.Errorf("status %d", st)
	}
}
