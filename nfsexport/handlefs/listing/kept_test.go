package listing

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/stamp"
)

// sized is a listing that takes about so many bytes.
func sized(bytes int) *Listing { return &Listing{names: string(make([]byte, bytes))} }

// TestKept: a directory keeps its last listing, until it is let go of or others want the room.
func TestKept(t *testing.T) {
	var k Kept
	var p Place
	first, second := sized(10), sized(20)
	k.Keep(&p, first)
	k.Keep(&p, second)
	if n, bytes := k.Size(); n != 1 || bytes != second.Bytes() || p.Last() != second {
		t.Errorf("%d listings of %d bytes are kept", n, bytes)
	}
	k.Drop(&p, first) // another call's
	if p.Last() != second {
		t.Error("what was not meant was let go of")
	}
	k.Keep(&p, sized(maxKept))
	if p.Last() != second {
		t.Error("what takes all the room is kept")
	}
	places := make([]Place, 9)
	for i := range places {
		k.Keep(&places[i], sized(maxKept/8))
	}
	if _, bytes := k.Size(); bytes > maxKept || p.Last() != nil || places[0].Last() != nil || places[8].Last() == nil {
		t.Errorf("of those that are kept, %d bytes, the oldest is first: %v, the last %v", bytes, p.Last() == nil, places[8].Last() != nil)
	}
	for i := range places {
		k.Clear(&places[i])
	}
	k.Drop(&p, second)
	k.Clear(&p)
	if n, bytes := k.Size(); n != 0 || bytes != 0 {
		t.Errorf("%d listings of %d bytes are kept when all are let go of", n, bytes)
	}
}

// TestKeptAtOnce: what is counted is what is kept, whoever keeps and lets go at once.
func TestKeptAtOnce(t *testing.T) {
	var k Kept
	places := make([]Place, 4)
	lists := []*Listing{sized(10), sized(1000), sized(maxKept / 3)}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 2000 {
				p, l := &places[i%len(places)], lists[(i+n)%len(lists)]
				switch (i + n) % 5 {
				case 0:
					k.Clear(p)
				case 1:
					k.Drop(p, l)
				default:
					k.Keep(p, l)
				}
			}
		})
	}
	all.Wait()
	n, bytes := 0, 0
	for i := range places {
		if l := places[i].Last(); l != nil {
			n, bytes = n+1, bytes+l.Bytes()
		}
	}
	if kept, size := k.Size(); kept != n || size != bytes {
		t.Errorf("%d listings of %d bytes are kept, counted as %d of %d", n, bytes, kept, size)
	}
}

// TestFits: a listing goes on from what was read as long as nothing changed, and only in what
// was read.
func TestFits(t *testing.T) {
	now := Moment{1, stamp.Of(&unix.Stat_t{Ctim: unix.Timespec{Sec: 1}})}
	later := Moment{1, stamp.Of(&unix.Stat_t{Ctim: unix.Timespec{Sec: 2}})}
	ents := []Entry{{Cookie: 20}, {Cookie: 30}}
	for _, c := range []struct {
		name   string
		l      Listing
		at     Moment
		cookie uint64
		want   bool
	}{
		{"from the start", Listing{}, now, 0, true},
		{"from anywhere", Listing{}, now, 99, true},
		{"the directory changed", Listing{}, later, 0, false},
		{"this server changed it", Listing{}, Moment{2, now.At}, 0, false},
		{"before a part", Listing{after: 10}, now, 9, false},
		{"a part", Listing{after: 10}, now, 10, true},
		{"in what is not all", Listing{more: true}, now, 29, true},
		{"behind what is not all", Listing{more: true}, now, 30, false},
	} {
		c.l.of, c.l.ents = now, ents
		if c.l.Fits(c.at, c.cookie) != c.want {
			t.Errorf("%s: %v", c.name, !c.want)
		}
	}
}
