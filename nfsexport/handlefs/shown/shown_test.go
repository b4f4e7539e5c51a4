package shown

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"rubus/nfsexport/handlefs/fhandle"
)

// TestShown: names that were told last are remembered, by the name that was told last, and what is
// remembered does not grow. Several tell at once.
func TestShown(t *testing.T) {
	const tellers, rounds = 4, 512
	s := New()
	sum := func(teller, round, i int) uint64 {
		return maphash.Comparable(s.seed, [3]int{teller, round, i}) | 1<<63
	}
	names := map[string]*[runLen]string{"old": {}, "name": {}}
	for name, all := range names {
		for i := range all {
			all[i] = fmt.Sprintf("%s%d", name, i)
		}
	}
	tell := func(dir *fhandle.Key, teller, round int, name string) {
		b := &Batch{n: runLen - round%3, dir: dir, names: *names[name]}
		for i := range b.n {
			b.sums[i] = sum(teller, round, i)
		}
		s.put(b)
	}
	var all sync.WaitGroup
	var dirs [tellers]fhandle.Key
	for k := range tellers {
		dirs[k].SetExport(1)
		all.Go(func() {
			for round := range rounds {
				tell(&dirs[k], k, round, "old")
				if round%8 == 0 {
					tell(&dirs[k], k, round, "old") // makes no new run
					tell(&dirs[k], k, round, "name")
				}
			}
		})
	}
	all.Wait()
	// A few had lost a place in between.
	if made, want := s.made.Load(), uint32(tellers*(rounds+rounds/8)); made > want+want/20 {
		t.Errorf("%d runs were made, want about %d", made, want)
	}
	there := 0
	for k := range tellers {
		for round := rounds - 256; round < rounds; round++ {
			name := "old"
			if round%8 == 0 {
				name = "name"
			}
			for i := range runLen - round%3 {
				dir, got := s.find(sum(k, round, i))
				if dir == nil {
					continue // another has its place
				}
				if there++; dir != &dirs[k] || got != names[name][i] {
					t.Fatalf("%d of %d of %d is %q", i, round, k, got)
				}
			}
		}
	}
	if want := tellers * 256 * (runLen - 1) * 3 / 4; there < want {
		t.Errorf("%d of those told last are remembered, want %d", there, want)
	}
	for i := range runs { // as many as there may be
		s.put(&Batch{n: 1, dir: &dirs[0], sums: [runLen]uint64{sum(tellers, i, 0)}, names: [runLen]string{"name"}})
	}
	for k := range tellers {
		for round := range rounds {
			if dir, name := s.find(sum(k, round, 0)); dir != nil {
				t.Fatalf("%q is remembered, though there is no room", name)
			}
		}
	}
}

// TestBatch: what a listing tells is remembered when it is flushed, or there are many of it, of
// the image alone, and with the directory that each name is in.
func TestBatch(t *testing.T) {
	s := New()
	var b Batch
	var dirs [2]fhandle.Key
	images := [2]uint64{s.Image([]string{"a", "b"}), s.Image([]string{"ab"})}
	keys := make([]fhandle.Key, runLen+2)
	for i := range keys {
		kernel := [8]byte{byte(i)}
		fhandle.Parse(append([]byte{1, fhandle.Overlay, 8, 10: 0}, append(kernel[:], make([]byte, 16)...)...), &keys[i])
	}
	found := func(i int) string {
		dir, name := s.Find(images[0], &keys[i])
		if other, _ := s.Find(images[1], &keys[i]); other != nil {
			t.Errorf("%d is told to be in another image", i)
		}
		for d := range dirs {
			if dir == &dirs[d] {
				name += fmt.Sprint(" in ", d)
			}
		}
		return name
	}
	for i := range keys {
		dir := &dirs[0]
		if i > runLen {
			dir = &dirs[1]
		}
		b.Add(s, images[0], dir, &keys[i], fmt.Sprint("name", i))
	}
	for i, want := range map[int]string{0: "name0 in 0", runLen - 1: fmt.Sprint("name", runLen-1, " in 0"), runLen: fmt.Sprint("name", runLen, " in 0"), runLen + 1: ""} {
		if got := found(i); got != want {
			t.Errorf("before the end %d is %q, want %q", i, got, want)
		}
	}
	b.Flush(s)
	b.Flush(s)
	if got := found(runLen + 1); got != fmt.Sprint("name", runLen+1, " in 1") {
		t.Errorf("at the end the last is %q", got)
	}
	if b.names != [runLen]string{} {
		t.Errorf("%q of the listing is held", b.names)
	}
}

// What is remembered of names holds no listing that they were told by: that may be large.
func TestShownCopies(t *testing.T) {
	s := New()
	listing := strings.Repeat("name", 1<<18)
	begin, end := address(listing), address(listing)+uintptr(len(listing))
	for n := 1; n <= runLen; n++ {
		b := &Batch{n: n, dir: new(fhandle.Key)}
		for i := range n {
			b.sums[i], b.names[i] = maphash.Comparable(s.seed, [2]int{n, i})|1<<63, listing[i*8:][:8]
		}
		s.put(b)
		for _, sum := range b.sums[:n] {
			if _, name := s.find(sum); name != "namename" || begin <= address(name) && address(name) < end {
				t.Errorf("of %d: %q is a part of the listing", n, name)
			}
		}
	}
}

func address(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }
