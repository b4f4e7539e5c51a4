package handlefs

import (
	"cmp"
	"container/list"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
)

// snapshot is a directory read whole, or the part of a large one that follows a
// cookie: names in the order of their cookies. It never changes, but that what
// is known of its entries is.
type snapshot struct {
	names  string
	ents   []dirent
	parent uint64 // the fileid of ".."

	after uint64 // entries with cookies up to this one may be missing
	more  bool   // there are entries behind the last

	changes uint64 // object.changes when it was read
	at      stamp.Stamp
	// settled: it holds for as long as the stamp stays, and with it what is known of
	// its entries, which is kept.
	settled bool
	runs    []atomic.Pointer[entryRun]
}

type dirent struct {
	cookie uint64
	ino    uint64
	off    uint32 // of the name in names
	n      uint8
	typ    uint8 // as getdents64 has it
}

func (s *snapshot) name(d *dirent) string { return s.names[d.off:][:d.n] }

// direntSize is the memory of one dirent.
const direntSize = 24

// bytes is what s takes at most, its object included.
func (s *snapshot) bytes() int {
	return 1024 + len(s.names) + direntSize*cap(s.ents) + s.runBytes()
}

// fits says whether s is what obj holds now, and knows what follows cookie.
func (s *snapshot) fits(obj *object, st *unix.Stat_t, cookie uint64) bool {
	return s.changes == obj.changes.Load() && s.at == stamp.Of(st) &&
		s.after <= cookie && (!s.more || cookie < s.ents[len(s.ents)-1].cookie)
}

// snapshot gives the directory of the call. A listing that goes on takes the last,
// if nothing changed; one that begins only if nobody could have changed anything
// unseen. The directory is locked for reading.
func (fs *FS) snapshot(o *op, cookie uint64) (*snapshot, unix.Errno) {
	st := &o.lister.st
	if e := o.attributes(o.obj, st); e != 0 {
		return nil, e
	}
	if s := o.obj.snap.Load(); s != nil && (cookie != 0 || s.settled) && s.fits(o.obj, st, cookie) {
		return s, 0
	}
	s := &snapshot{changes: o.obj.changes.Load(), at: stamp.Of(st)}
	s.settled = s.at.Settled(fs.stampTime())
	if o.takeGolden(s) {
		return s, 0
	}
	o.altersFile(o.obj) // it may move the time of the last access
	defer o.altered()
	return s, s.read(o, cookie)
}

const (
	// dirBuf is how much of a directory is asked for at once.
	dirBuf = 64 << 10
	// smallListing is how large a snapshot may grow before its call must have
	// the right to a large one.
	smallListing = 128 << 10
	// maxListing is the size beyond which a snapshot lets go of what is not asked
	// for next.
	maxListing = 4 << 20
	// largeListings and rootListings are how many calls may hold a large listing
	// at once, in all and of one root.
	largeListings = 8
	rootListings  = 2
)

// claim waits for the right to hold a large listing until the call ends.
func (o *op) claim() {
	if !o.large {
		o.waits()
		o.exp.root.listings <- struct{}{}
		o.fs.snaps.large <- struct{}{}
		o.large = true
	}
}

// unclaim gives that right back.
func (o *op) unclaim() {
	if o.large {
		<-o.fs.snaps.large
		<-o.exp.root.listings
		o.large = false
	}
}

// read reads the call's directory: all of it, or of a large one what follows
// cookie.
func (s *snapshot) read(o *op, cookie uint64) unix.Errno {
	dot := rawfs.Name{'.'}
	fd, e := rawfs.Open(o.obj.fd, &dot, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if e != 0 {
		return e
	}
	defer unix.Close(fd)
	var names strings.Builder
	var low, high uint64 // of the hashes that are kept
	high = math.MaxUint64
	scratch := o.fs.snaps.scratch()
	defer o.fs.snaps.bufs.Put(scratch)
	buf := scratch[:]
	for {
		n, e := rawfs.ReadDir(fd, buf)
		if e != 0 {
			return e
		}
		if n == 0 {
			break
		}
		s.parse(buf[:n], &names, low, high)
		size := names.Len() + direntSize*len(s.ents)
		if size > smallListing {
			o.claim()
		}
		if size > o.fs.snaps.listing {
			if s.after = cookie; cookie > crowded {
				low = cookie - crowded
			}
			high = s.halve(&names, low, high)
		}
	}
	s.names = names.String()
	if s.more || s.after != 0 { // what was let go of takes no room
		s.names, s.ents = strings.Clone(s.names), slices.Clone(s.ents)
	}
	s.order()
	if s.settled && !o.large && !s.more && s.after == 0 {
		s.makeRuns()
	}
	return 0
}

// crowded is how many names of one hash a large directory may have and still be
// listed rightly: the cookies of such names reach beyond their hash.
const crowded = 64

// halve lets go of the entries with hashes below low and, when those are not half
// of all, of the upper half of the others. It gives the highest hash that is kept
// from now on.
func (s *snapshot) halve(names *strings.Builder, low, high uint64) uint64 {
	s.names = names.String() // stays as it is
	s.sort()
	keep := s.ents[sort.Search(len(s.ents), func(i int) bool { return s.ents[i].cookie >= low }):]
	if len(keep) > len(s.ents)/2 {
		keep = keep[:(len(keep)+1)/2]
		high, s.more = keep[len(keep)-1].cookie, true
	}
	names.Reset()
	n := 0
	for _, d := range keep {
		name := s.name(&d)
		d.off = uint32(names.Len())
		names.WriteString(name)
		s.ents[n] = d
		n++
	}
	s.names, s.ents = "", s.ents[:n]
	return high
}

// parse takes the entries of one getdents64. Those with hashes from low to high are kept.
func (s *snapshot) parse(buf []byte, names *strings.Builder, low, high uint64) {
	ents, bytes := 0, 0
	var d rawfs.Dirent
	for rest, ok := d.Next(buf); ok; rest, ok = d.Next(rest) {
		ents++
		bytes += len(d.Name)
	}
	s.ents = slices.Grow(s.ents, ents)
	names.Grow(bytes)
	for rest, ok := d.Next(buf); ok; rest, ok = d.Next(rest) {
		switch string(d.Name) {
		case ".":
		case "..":
			s.parent = d.Ino
		default:
			if h := nameHash(d.Name); low <= h && h <= high {
				s.ents = append(s.ents, dirent{ino: d.Ino, off: uint32(names.Len()), n: uint8(len(d.Name)), typ: d.Type, cookie: h})
				names.Write(d.Name)
			}
		}
	}
}

// order sorts by hash and makes the hashes cookies: different ones, above those
// of the dots. Equal hashes are numbered in the order of their names.
func (s *snapshot) order() {
	s.sort()
	last := uint64(cookieDotDot)
	for i := range s.ents {
		d := &s.ents[i]
		d.cookie = max(d.cookie, last+1)
		last = d.cookie
	}
}

// sort sorts by hash, and by name where that is the same.
func (s *snapshot) sort() {
	slices.SortFunc(s.ents, func(a, b dirent) int {
		if a.cookie != b.cookie {
			return cmp.Compare(a.cookie, b.cookie)
		}
		return cmp.Compare(s.name(&a), s.name(&b))
	})
}

// nameHash is 62 bits of FNV-1a, mixed: a cookie must be positive as a signed
// number of 64 bits, which is what client kernels make of it. It must never
// change: clients hold cookies across our restarts.
func nameHash(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h >> 2
}

// maxSnapshots bounds the memory of the snapshots kept, in bytes.
const maxSnapshots = 64 << 20

// snapshots knows which objects keep a snapshot for the next listing.
type snapshots struct {
	listing int           // the size of a listing that is large, maxListing
	large   chan struct{} // held by calls that hold one
	bufs    sync.Pool     // of *[dirBuf]byte, what directories are read into

	mu    sync.Mutex
	objs  list.List // of *object, the one kept first at the front
	total int
}

func (c *snapshots) init() { c.listing, c.large = maxListing, make(chan struct{}, largeListings) }

// scratch gives what a directory is read into; it is to be put back to bufs.
func (c *snapshots) scratch() *[dirBuf]byte {
	if b, ok := c.bufs.Get().(*[dirBuf]byte); ok {
		return b
	}
	return new([dirBuf]byte)
}

// keep keeps s with obj and lets go of the oldest when there are too many.
func (c *snapshots) keep(obj *object, s *snapshot) {
	if s.bytes() > maxSnapshots/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(obj)
	obj.snap.Store(s)
	obj.snapAt = c.objs.PushBack(obj)
	for c.total += s.bytes(); c.total > maxSnapshots; {
		c.remove(c.objs.Front().Value.(*object))
	}
}

// drop lets go of obj's snapshot if it is s.
func (c *snapshots) drop(obj *object, s *snapshot) {
	if obj.snap.Load() != s {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(obj)
}

func (c *snapshots) remove(obj *object) {
	if s := obj.snap.Swap(nil); s != nil {
		c.total -= s.bytes()
		c.objs.Remove(obj.snapAt)
		obj.snapAt = nil
	}
}

// forget lets go of all snapshots below r.
func (c *snapshots) forget(r *root) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.objs.Front(); e != nil; {
		obj := e.Value.(*object)
		if e = e.Next(); obj.root == r {
			c.remove(obj)
		}
	}
}
