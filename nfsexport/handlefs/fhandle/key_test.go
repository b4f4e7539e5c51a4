package fhandle

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// kernelOf is a handle as the kernel might give it.
func kernelOf(typ int32, b []byte) *Kernel {
	h := &Kernel{typ: typ, bytes: uint32(len(b))}
	copy(h.data[:], b)
	return h
}

func makeKey(t testing.TB, id nfsexport.ID, typ int32, kernel []byte) *Key {
	t.Helper()
	k := new(Key)
	if !k.Set(kernelOf(typ, kernel)) {
		t.Fatalf("a kernel handle of %d bytes does not fit", len(kernel))
	}
	k.SetExport(id)
	return k
}

func newSealer() *Sealer { return NewSealer([32]byte{1, 2, 3}) }

// TestGolden holds the format still: clients keep handles over upgrades.
func TestGolden(t *testing.T) {
	s := newSealer()
	var out strings.Builder
	for _, n := range []int{8, 32, 36, 44} {
		kernel := bytes.Repeat([]byte{0xa5}, n)
		var wire [nfs3.MaxHandle]byte
		l := s.Seal(makeKey(t, 0x0123456789abcdef, Overlay, kernel), &wire)
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

func TestRoundTrip(t *testing.T) {
	s := newSealer()
	for n := range MaxKernel + 1 {
		k := makeKey(t, 7, Overlay, bytes.Repeat([]byte{byte(n)}, n))
		var wire [nfs3.MaxHandle]byte
		l := s.Seal(k, &wire)
		var got Key
		mac, ok := Parse(wire[:l], &got)
		if !ok || got != *k || got.Export() != 7 || !s.Verify(&got, mac) {
			t.Errorf("a kernel handle of %d bytes does not come back", n)
		}
		if len(mac) < 9 || n <= 36 && len(mac) != maxMAC {
			t.Errorf("a kernel handle of %d bytes leaves a MAC of %d", n, len(mac))
		}
		var h Kernel
		if h.Set(&got); !h.Equal(kernelOf(Overlay, bytes.Repeat([]byte{byte(n)}, n))) {
			t.Errorf("the kernel's handle of %d bytes does not come back: type %#x, %x", n, h.typ, h.data)
		}
	}
}

// TestDoesNotFit: what has no room in a key, or no type, makes none.
func TestDoesNotFit(t *testing.T) {
	good := makeKey(t, 7, Overlay, []byte("before"))
	for name, c := range map[string]struct {
		typ   int32
		bytes uint32
		ok    bool
	}{
		"the longest":        {Overlay, MaxKernel, true},
		"a byte more":        {Overlay, MaxKernel + 1, false},
		"as long as it gets": {Overlay, ^uint32(0), false}, // EOVERFLOW says how much it would be
		"the last type":      {255, 8, true},
		"a type of two":      {256, 8, false},
		"a negative type":    {-1, 8, false},
	} {
		k := *good
		if ok := k.Set(&Kernel{typ: c.typ, bytes: c.bytes}); ok != c.ok {
			t.Errorf("%s: %v", name, ok)
		} else if !ok && k != *good {
			t.Errorf("%s: it was changed", name)
		}
	}
}

// TestVerify: a MAC is good for one key under one secret.
func TestVerify(t *testing.T) {
	s := newSealer()
	k := makeKey(t, 7, Overlay, bytes.Repeat([]byte{5}, 32))
	var wire [nfs3.MaxHandle]byte
	mac := wire[k.len():s.Seal(k, &wire)]
	other := bytes.Clone(mac)
	other[len(other)-1] ^= 1
	for name, c := range map[string]struct {
		s    *Sealer
		k    *Key
		mac  []byte
		want bool
	}{
		"its own":               {s, k, mac, true},
		"another secret":        {NewSealer([32]byte{9}), k, mac, false},
		"another export":        {s, makeKey(t, 8, Overlay, bytes.Repeat([]byte{5}, 32)), mac, false},
		"another object":        {s, makeKey(t, 7, Overlay, bytes.Repeat([]byte{6}, 32)), mac, false},
		"another type":          {s, makeKey(t, 7, 1, bytes.Repeat([]byte{5}, 32)), mac, false},
		"a bit of it flipped":   {s, k, other, false},
		"the beginning of it":   {s, k, mac[:len(mac)-1], false},
		"none":                  {s, k, nil, false},
		"and its own once more": {s, k, mac, true},
	} {
		if got := c.s.Verify(c.k, c.mac); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSealerDoesNotAllocate(t *testing.T) {
	if raceDetector {
		return
	}
	s, k := newSealer(), makeKey(t, 7, Overlay, make([]byte, 32))
	var wire [nfs3.MaxHandle]byte
	var n uint8
	if a := testing.AllocsPerRun(100, func() { n = s.Seal(k, &wire) }); a > 0 {
		t.Errorf("Seal allocates %v times", a)
	}
	var got Key
	if a := testing.AllocsPerRun(100, func() {
		if mac, ok := Parse(wire[:n], &got); !ok || !s.Verify(&got, mac) {
			t.Error("not verified")
		}
	}); a > 0 {
		t.Errorf("Verify allocates %v times", a)
	}
}

func BenchmarkSeal(b *testing.B) {
	s, k := newSealer(), makeKey(b, 7, Overlay, make([]byte, 32))
	var out [nfs3.MaxHandle]byte
	b.ReportAllocs()
	for b.Loop() {
		s.Seal(k, &out)
	}
}

func FuzzParse(f *testing.F) {
	s := newSealer()
	var wire [nfs3.MaxHandle]byte
	for _, n := range []int{0, 32, 36, 44} {
		l := s.Seal(makeKey(f, 7, Overlay, make([]byte, n)), &wire)
		f.Add(bytes.Clone(wire[:l]))
	}
	f.Add([]byte{1, 0xf8, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, fh []byte) {
		var k Key
		mac, ok := Parse(fh, &k)
		if !ok {
			return
		}
		if again := append(bytes.Clone(k[:k.len()]), mac...); !bytes.Equal(again, fh) {
			t.Errorf("%x parses as %x", fh, again)
		}
		if len(mac) < 9 || len(mac) > maxMAC {
			t.Errorf("a MAC of %d bytes", len(mac))
		}
		// What is said of any handle at all stays within it.
		var name [MaxIndexName]byte
		var in, h Kernel
		if n := k.IndexName(&name); len(n)%2 != 0 || name[len(n)] != 0 {
			t.Errorf("%x has the name %q in an index", fh, n)
		}
		if k.Upper() && k.Lower() {
			t.Errorf("%x is of the upper and of a layer", fh)
		}
		if k.Inner(&in) && h.SetLower(&in, &k) && !k.SameDisk(&k) {
			t.Errorf("%x is on no disk", fh)
		}
	})
}
