package fhandle

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
)

// overlayHandle is a handle as overlayfs makes it of the inner one, padded to four bytes.
func overlayHandle(flags byte, uuid byte, typ byte, inner []byte) []byte {
	b := []byte{0, 0, 0, 0, 0xfb, byte(5 + 16 + len(inner)), flags, typ}
	b = append(b, bytes.Repeat([]byte{uuid}, 16)...)
	b = append(b, inner...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// TestOverlayHandle: what a handle says of where its object lies.
func TestOverlayHandle(t *testing.T) {
	inner := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	disk := makeKey(t, 1, Overlay, overlayHandle(fhPathUpper, 7, 1, inner))
	for name, c := range map[string]struct {
		kernel             []byte
		upper, lower, same bool
		inner              *Kernel // nil: none
		index              string
	}{
		"of a layer":        {overlayHandle(0, 7, 1, inner), false, true, true, kernelOf(1, inner), hex.EncodeToString(overlayHandle(0, 7, 1, inner)[3:])},
		"of the upper":      {overlayHandle(fhPathUpper, 7, 1, inner), true, false, true, kernelOf(1, inner), hex.EncodeToString(overlayHandle(fhPathUpper, 7, 1, inner)[3:])},
		"of another disk":   {overlayHandle(0, 8, 1, inner), false, true, false, kernelOf(1, inner), hex.EncodeToString(overlayHandle(0, 8, 1, inner)[3:])},
		"with padding":      {overlayHandle(0, 7, 2, inner[:5]), false, true, true, kernelOf(2, inner[:5]), hex.EncodeToString(overlayHandle(0, 7, 2, inner[:5])[3 : 3+21+5])},
		"of nothing within": {overlayHandle(0, 7, 1, nil), false, true, false, nil, hex.EncodeToString(overlayHandle(0, 7, 1, nil)[3:])},
		"too short for all": {[]byte{0, 0, 0}, false, false, false, nil, ""},
		"empty":             {nil, false, false, false, nil, ""},
		"a lie of its length": {func() []byte {
			b := overlayHandle(0, 7, 1, inner)
			b[fhLen] = 255
			return b
		}(), false, true, true, nil, hex.EncodeToString(append([]byte{0, 0xfb, 255}, overlayHandle(0, 7, 1, inner)[6:]...))},
	} {
		t.Run(name, func(t *testing.T) {
			k := makeKey(t, 1, Overlay, c.kernel)
			if k.Upper() != c.upper || k.Lower() != c.lower {
				t.Errorf("upper %v, lower %v", k.Upper(), k.Lower())
			}
			if k.SameDisk(disk) != c.same || disk.SameDisk(k) != c.same {
				t.Errorf("on one file system: %v, %v", k.SameDisk(disk), disk.SameDisk(k))
			}
			var in Kernel
			if ok := k.Inner(&in); ok != (c.inner != nil) || ok && !in.Equal(c.inner) {
				t.Errorf("the inner handle: %v, type %d, %x", ok, in.typ, in.data[:in.bytes])
			}
			var buf [MaxIndexName]byte
			if got := k.IndexName(&buf); string(got) != c.index {
				t.Errorf("in the index it is\n%s, want\n%s", got, c.index)
			}
		})
	}
}

// TestSetLower: the handle of a layer's object is made of another's.
func TestSetLower(t *testing.T) {
	like := makeKey(t, 1, Overlay, overlayHandle(fhPathUpper, 7, 1, []byte{9, 9, 9, 9}))
	for name, c := range map[string]struct {
		in   *Kernel
		like *Key
		want []byte // nil: there is none
	}{
		"as long as the other":  {kernelOf(2, []byte{1, 2, 3, 4}), like, overlayHandle(0, 7, 2, []byte{1, 2, 3, 4})},
		"longer":                {kernelOf(0x81, bytes.Repeat([]byte{5}, 20)), like, overlayHandle(0, 7, 0x81, bytes.Repeat([]byte{5}, 20))},
		"too long":              {kernelOf(1, bytes.Repeat([]byte{5}, 24)), like, nil},
		"one to be padded":      {kernelOf(1, []byte{1, 2, 3}), like, nil}, // the kernel says with what
		"a type that is none":   {kernelOf(0, []byte{1, 2, 3, 4}), like, nil},
		"a type of two bytes":   {kernelOf(256, []byte{1, 2, 3, 4}), like, nil},
		"like no overlay's own": {kernelOf(1, []byte{1, 2, 3, 4}), makeKey(t, 1, 1, []byte{1, 2, 3, 4, 5, 6, 7, 8}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var h Kernel
			if ok := h.SetLower(c.in, c.like); ok != (c.want != nil) {
				t.Fatal(ok)
			} else if ok && !h.Equal(kernelOf(Overlay, c.want)) {
				t.Errorf("type %#x, %x, want\n%x", h.typ, h.data[:h.bytes], c.want)
			}
		})
	}
}

// TestKernel: the kernel's handle of a file opens it, and no other.
func TestKernel(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f", "g"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	var all []Kernel
	for _, name := range []string{"f", "g"} {
		var n rawfs.Name
		n.Set(name)
		var h, self Kernel
		mount, e := h.Of(at, &n)
		if e != 0 {
			t.Fatal(e)
		}
		fd, e := h.Open(at, unix.O_RDONLY)
		if e != 0 {
			t.Fatal(e)
		}
		defer unix.Close(fd)
		buf := make([]byte, 10)
		if got, e := rawfs.Read(fd, buf, 0); e != 0 || string(buf[:got]) != name {
			t.Errorf("%s opens %q, %v", name, buf[:got], e)
		}
		if m, e := self.Of(fd, nil); e != 0 || m != mount || !self.Equal(&h) {
			t.Errorf("the handle of %s by its descriptor: mount %d, want %d, %v", name, m, mount, e)
		}
		if slices.ContainsFunc(all, func(g Kernel) bool { return g.Equal(&h) }) {
			t.Errorf("%s has a handle twice", name)
		}
		all = append(all, h)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var n rawfs.Name
	n.Set("none")
	var h Kernel
	if _, e := h.Of(at, &n); e != unix.ENOENT {
		t.Errorf("a handle of nothing: %v", e)
	}
	if _, e := h.Of(-1, nil); e != unix.EBADF {
		t.Errorf("a handle of no descriptor: %v", e)
	}
	if _, e := all[0].Open(-1, unix.O_PATH); e != unix.EBADF {
		t.Errorf("opened on no mount: %v", e)
	}
}
