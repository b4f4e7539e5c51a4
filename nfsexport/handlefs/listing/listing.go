package listing

import (
	"slices"
	"sort"
	"sync/atomic"

	"rubus/nfsexport/handlefs/stamp"
)

// The cookies of the two names every directory has, which no Listing has. 0 is the start.
const (
	CookieDot    = 1
	CookieDotDot = 2
)

// Listing is a directory read whole, or the part of a large one that follows a
// cookie: names in the order of their cookies, which depend on nothing but the names. It
// never changes once it is read, but that what is known of its entries does. Then its
// methods may be called from many goroutines at once.
type Listing struct {
	names  string
	ents   []Entry
	parent uint64

	after uint64 // entries with cookies up to this one may be missing
	more  bool

	of      Moment
	settled bool
	runs    []atomic.Pointer[Run]
}

// Moment is of a directory: what changes whenever that does, as far as anybody sees.
type Moment struct {
	Changes uint64 // by this process
	At      stamp.Stamp
}

// New makes a listing of a directory that is read from now on. settled says that it holds for
// as long as the stamp of the moment stays, and with it what is known of its entries, which is
// kept.
func New(of Moment, settled bool) *Listing { return &Listing{of: of, settled: settled} }

// Entry is an entry of a Listing, which has its name.
type Entry struct {
	Cookie uint64
	Ino    uint64
	off    uint32 // of the name in names
	n      uint8
	Type   uint8 // as getdents64(2) has it
}

// entrySize is the memory of an Entry.
const entrySize = 24

// Name is the name of an entry of l, a part of the memory of l.
func (l *Listing) Name(e *Entry) string { return l.names[e.off:][:e.n] }

// Len is the number of entries, and Entry gives one of them.
func (l *Listing) Len() int { return len(l.ents) }

// Entry gives the i-th entry.
func (l *Listing) Entry(i int) *Entry { return &l.ents[i] }

// From gives the number of the first entry after a cookie.
func (l *Listing) From(cookie uint64) int {
	return sort.Search(len(l.ents), func(i int) bool { return l.ents[i].Cookie > cookie })
}

// Parent is the inode number of "..".
func (l *Listing) Parent() uint64 { return l.parent }

// More says whether the directory has entries behind the last.
func (l *Listing) More() bool { return l.more }

// Settled is what New was told.
func (l *Listing) Settled() bool { return l.settled }

// At is the stamp of the directory when it was read.
func (l *Listing) At() stamp.Stamp { return l.of.At }

// Bytes is what l takes at most, what will be known of its entries and its directory's
// object included.
func (l *Listing) Bytes() int {
	return 1024 + len(l.names) + entrySize*cap(l.ents) + l.runBytes()
}

// Fits says whether l is what the directory holds at a moment, and knows what follows cookie.
func (l *Listing) Fits(now Moment, cookie uint64) bool {
	return l.of == now && l.after <= cookie && (!l.more || cookie < l.ents[len(l.ents)-1].Cookie)
}

// Same says whether l and m are of the same entries.
func (l *Listing) Same(m *Listing) bool { return l.names == m.names && slices.Equal(l.ents, m.ents) }

// Fork gives a listing of the entries of l, which it shares, with none that is known yet. It is of
// no directory.
func (l *Listing) Fork() *Listing {
	f := &Listing{names: l.names, ents: l.ents}
	f.makeRuns()
	return f
}

// Take has l be of the entries of m, which it shares, instead of reading them.
func (l *Listing) Take(m *Listing, parent uint64) {
	l.parent, l.names, l.ents = parent, m.names, m.ents
	l.makeRuns()
}
