package handlefs

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

func newSealer() *sealer {
	s := new(sealer)
	s.init(testKey)
	return s
}

func makeKey(t testing.TB, id nfsexport.ID, typ int32, kernel []byte) *key {
	t.Helper()
	k := new(key)
	if !k.setKernel(typ, kernel) {
		t.Fatalf("a kernel handle of %d bytes does not fit", len(kernel))
	}
	k.setExport(id)
	return k
}

// TestHandleGolden holds the format still: clients keep handles over upgrades.
func TestHandleGolden(t *testing.T) {
	s := newSealer()
	var out strings.Builder
	for _, n := range []int{8, 32, 36, 44} {
		kernel := bytes.Repeat([]byte{0xa5}, n)
		var wire [nfs3.MaxHandle]byte
		l := s.seal(makeKey(t, 0x0123456789abcdef, overlayHandle, kernel), &wire)
		out.WriteString(hex.EncodeToString(wire[:l]) + "\n")
	}
	want, err := os.ReadFile("testdata/handles.golden")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("handles changed:\n%swant\n%s", out.String(), want)
	}
}

func TestHandleRoundTrip(t *testing.T) {
	s := newSealer()
	for n := range maxKernel + 1 {
		k := makeKey(t, 7, overlayHandle, bytes.Repeat([]byte{byte(n)}, n))
		var wire [nfs3.MaxHandle]byte
		l := s.seal(k, &wire)
		var got key
		mac, ok := parseHandle(wire[:l], &got)
		if !ok || got != *k || !s.verify(&got, mac) {
			t.Errorf("a kernel handle of %d bytes does not come back", n)
		}
		if len(mac) < 9 || n <= 36 && len(mac) != maxMAC {
			t.Errorf("a kernel handle of %d bytes leaves a MAC of %d", n, len(mac))
		}
	}
	if new(key).setKernel(overlayHandle, make([]byte, maxKernel+1)) {
		t.Error("a kernel handle that leaves no room was taken")
	}
}

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
	other := new(sealer)
	other.init([32]byte{9})
	var k key
	parseHandle(w.root, &k)
	var wire [nfs3.MaxHandle]byte
	n := other.seal(&k, &wire)
	var a nfs3.Attr
	if st := w.GetAttr(&w.call, wire[:n], &a); st != nfs3.ErrBadHandle {
		t.Errorf("status %d", st)
	}
}

func TestSealerDoesNotAllocate(t *testing.T) {
	if raceDetector {
		return
	}
	s, k := newSealer(), makeKey(t, 7, overlayHandle, make([]byte, 32))
	var wire [nfs3.MaxHandle]byte
	var n uint8
	if a := testing.AllocsPerRun(100, func() { n = s.seal(k, &wire) }); a > 0 {
		t.Errorf("seal allocates %v times", a)
	}
	var got key
	if a := testing.AllocsPerRun(100, func() {
		if mac, ok := parseHandle(wire[:n], &got); !ok || !s.verify(&got, mac) {
			t.Error("not verified")
		}
	}); a > 0 {
		t.Errorf("verify allocates %v times", a)
	}
}

func FuzzParseHandle(f *testing.F) {
	s := newSealer()
	var wire [nfs3.MaxHandle]byte
	for _, n := range []int{0, 32, 36, 44} {
		l := s.seal(makeKey(f, 7, overlayHandle, make([]byte, n)), &wire)
		f.Add(bytes.Clone(wire[:l]))
	}
	f.Add([]byte{1, 0xf8, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, fh []byte) {
		var k key
		mac, ok := parseHandle(fh, &k)
		if !ok {
			return
		}
		if again := append(bytes.Clone(k[:k.len()]), mac...); !bytes.Equal(again, fh) {
			t.Errorf("%x parses as %x", fh, again)
		}
		if len(mac) < 9 || len(mac) > maxMAC {
			t.Errorf("a MAC of %d bytes", len(mac))
		}
	})
}
