package xdr

import (
	"bytes"
	"math"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var w Writer
	w.Uint32(0xdeadbeef)
	w.Uint64(1 << 63)
	w.Bool(true)
	w.Bool(false)
	for n := range 9 {
		w.Opaque(bytes.Repeat([]byte{7}, n))
		if w.Len()%4 != 0 {
			t.Fatalf("length %d after opaque of %d bytes", w.Len(), n)
		}
	}
	w.String("name")
	copy(w.Extend(4), "abcd")

	r := NewReader(w.Buf)
	if v := r.Uint32(); v != 0xdeadbeef {
		t.Errorf("uint32 %x", v)
	}
	if v := r.Uint64(); v != 1<<63 {
		t.Errorf("uint64 %x", v)
	}
	if !r.Bool() || r.Bool() {
		t.Error("bools")
	}
	for n := range 9 {
		if v := r.Opaque(8); len(v) != n {
			t.Errorf("opaque of %d bytes came back with %d", n, len(v))
		}
	}
	if v := r.String(4); v != "name" {
		t.Errorf("string %q", v)
	}
	if v := r.Fixed(4); string(v) != "abcd" {
		t.Errorf("fixed %q", v)
	}
	if !r.OK() || r.Len() != 0 {
		t.Errorf("OK %v, %d bytes left", r.OK(), r.Len())
	}
}

func TestGolden(t *testing.T) {
	var w Writer
	w.String("sillyprog") // RFC 4506 section 7 calls it so
	w.PutUint32(0, 9)
	want := []byte{0, 0, 0, 9, 's', 'i', 'l', 'l', 'y', 'p', 'r', 'o', 'g', 0, 0, 0}
	if !bytes.Equal(w.Buf, want) || len(want) != Size(9) {
		t.Errorf("got % x, want % x", w.Buf, want)
	}
	w.Truncate(4)
	if w.Len() != 4 {
		t.Errorf("length %d after Truncate(4)", w.Len())
	}
}

func TestBad(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []byte
		read func(*Reader)
	}{
		{"short uint32", []byte{1, 2, 3}, func(r *Reader) { r.Uint32() }},
		{"short uint64", []byte{1, 2, 3, 4, 5, 6, 7}, func(r *Reader) { r.Uint64() }},
		{"bool of 2", []byte{0, 0, 0, 2}, func(r *Reader) { r.Bool() }},
		{"opaque over limit", []byte{0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0}, func(r *Reader) { r.Opaque(4) }},
		{"opaque without padding", []byte{0, 0, 0, 1, 9}, func(r *Reader) { r.Opaque(4) }},
		{"opaque of 4 GiB", []byte{0xff, 0xff, 0xff, 0xff}, func(r *Reader) { r.Opaque(math.MaxInt) }},
		{"string cut off", []byte{0, 0, 0, 4, 'a'}, func(r *Reader) { _ = r.String(9) }},
		{"fixed of -1", []byte{0, 0, 0, 4}, func(r *Reader) { r.Fixed(-1) }},
		{"fixed of MaxInt", []byte{0, 0, 0, 4}, func(r *Reader) { r.Fixed(math.MaxInt) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := NewReader(tc.in)
			tc.read(&r)
			if r.OK() {
				t.Fatal("accepted")
			}
			if r.Uint32() != 0 || r.Uint64() != 0 || r.Bool() || r.Opaque(9) != nil || r.Len() != 0 {
				t.Error("the error does not stick")
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	w := Writer{Buf: make([]byte, 0, 256)}
	if n := testing.AllocsPerRun(100, func() {
		w.Truncate(0)
		w.Uint32(1)
		w.Uint64(2)
		w.String("name")
		r := NewReader(w.Buf)
		r.Uint32()
		r.Uint64()
		if r.String(255) != "name" {
			panic("string")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReader drives a Reader by a program of its own: whatever comes, nothing
// is read beyond the message.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, []byte{0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0})
	f.Add([]byte{4, 4, 4}, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops, msg []byte) {
		r := NewReader(msg)
		left := r.Len()
		for _, op := range ops {
			switch op % 6 {
			case 0:
				r.Uint32()
			case 1:
				r.Uint64()
			case 2:
				r.Bool()
			case 3:
				r.Fixed(int(op))
			case 4:
				if n := len(r.Opaque(int(op))); n > int(op) {
					t.Fatalf("%d bytes over a limit of %d", n, op)
				}
			case 5:
				_ = r.String(255)
			}
			if r.Len() > left {
				t.Fatal("the message grew")
			}
			left = r.Len()
		}
	})
}
