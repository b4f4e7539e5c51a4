package sunrpc

import "testing"

// TestShelf: a buffer is used again, the one that was used last first, and goes when it was
// not needed from one trim to the next.
func TestShelf(t *testing.T) {
	var s shelf
	if s.get() != nil {
		t.Fatal("an empty shelf gives something")
	}
	s.trim()
	var of [4]*buffer
	for i := range of {
		of[i] = new(buffer)
		s.put(of[i])
	}
	is := func(when string, want int) {
		t.Helper()
		if n := len(s.free); n != want {
			t.Fatalf("%s: %d are kept, want %d", when, n, want)
		}
		for i, b := range s.free[:cap(s.free)] {
			if (b == nil) != (i >= want) {
				t.Errorf("%s: place %d has %v", when, i, b)
			}
		}
	}
	s.trim()
	is("all came since the last trim", 4)
	if a, b := s.get(), s.get(); a != of[3] || b != of[2] {
		t.Error("others than those used last are given")
	}
	s.put(of[2])
	s.put(of[3])
	s.trim()
	is("two were needed", 2)
	if s.free[0] != of[2] || s.free[1] != of[3] {
		t.Error("those that were needed are gone")
	}
	s.trim()
	is("none was needed", 0)
}

// TestPoolSizes: a buffer is as large as its kind, and used again for another of it.
func TestPoolSizes(t *testing.T) {
	p := pool{largeSize: 1 << 20}
	for n, want := range map[int]int{
		0: smallBuffer, smallBuffer: smallBuffer, smallBuffer + 1: mediumBuffer, mediumBuffer: mediumBuffer,
		mediumBuffer + 1: wideBuffer, wideBuffer: wideBuffer, wideBuffer + 1: 1 << 20, 1 << 20: 1 << 20,
	} {
		b := p.get(n)
		if len(b.b) != want {
			t.Errorf("for %d bytes one of %d, want %d", n, len(b.b), want)
		}
		p.put(b)
		if want > mediumBuffer && p.get(n) != b {
			t.Errorf("one of %d is not used again", want)
		}
	}
	p.put(nil)
}
