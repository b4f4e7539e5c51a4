package shown

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"rubus/nfsexport/handlefs/fhandle"
)

// Table is of a fixed size: who comes later takes the place. Names that a listing told
// together lie together. Its methods may be called from many goroutines at once.
type Table struct {
	seed maphash.Seed
	made atomic.Uint32 // runs until now
	way  atomic.Uint32 // the way that is taken next
	runs [runs]atomic.Pointer[run]
	// places are where names are, by their sums. None of them is a pointer, which collecting
	// garbage would have to follow.
	places [sets][ways]atomic.Uint64
}

// runs times about 500 bytes is what it may take.
const (
	runs  = 1 << 14
	files = 1 << 17
	ways  = 4
	sets  = files / ways
)

// New makes a table of no names.
func New() *Table { return &Table{seed: maphash.MakeSeed()} }

// runLen is how many names lie together.
const runLen = 16

// run is up to runLen names of one directory. It never changes. Boards of one image share
// it: images may share files, but by other names.
type run struct {
	dir   *fhandle.Key   // some board's
	sums  [runLen]uint64 // of the image and the kernel's handle; 0: there is none
	names string
	ends  [runLen]uint16 // of each in names
}

func (r *run) name(i int) string {
	begin := uint16(0)
	if i > 0 {
		begin = r.ends[i-1]
	}
	return r.names[begin:r.ends[i]]
}

// place is the upper half of a name's sum, the place of its run, and its own in that. 0: none.
type place uint64

func placeOf(sum uint64, run, i int) place {
	return place(sum>>32<<32 | uint64(run*runLen+i))
}

// Image is what roots over the same layers have in common.
func (t *Table) Image(layers []string) uint64 {
	return maphash.String(t.seed, strings.Join(layers, "\x00"))
}

// sum is never below 1<<32, so that no place is 0.
func (t *Table) sum(image uint64, k *fhandle.Key) uint64 {
	return maphash.Bytes(t.seed, k.Kernel()) ^ image | 1<<63
}

// Find gives the name of what k stands for in roots of an image, and some such root's key of
// its directory; nil: it is not remembered.
func (t *Table) Find(image uint64, k *fhandle.Key) (dir *fhandle.Key, name string) {
	return t.find(t.sum(image, k))
}

func (t *Table) find(sum uint64) (dir *fhandle.Key, name string) {
	for i := range ways {
		p := t.places[sum%sets][i].Load()
		if p>>32 != sum>>32 {
			continue
		}
		// The run may be another by now.
		at := int(uint32(p))
		if r := t.runs[at/runLen].Load(); r != nil && r.sums[at%runLen] == sum {
			return r.dir, r.name(at % runLen)
		}
	}
	return nil, ""
}

// Batch is what a listing tells. The zero Batch is of no names; one goroutine uses it.
type Batch struct {
	n     int
	dir   *fhandle.Key
	sums  [runLen]uint64
	names [runLen]string
}

// Add is for a name that is about to be told, in the directory dir of a root of the image, of
// what k stands for. Whoever adds must Flush. dir is kept, and must not change any more.
func (b *Batch) Add(t *Table, image uint64, dir, k *fhandle.Key, name string) {
	if b.n == runLen || b.dir != dir {
		b.Flush(t)
	}
	b.dir, b.sums[b.n], b.names[b.n] = dir, t.sum(image, k), name
	b.n++
}

// Flush remembers the names that were added. It comes before anybody is told of them.
func (b *Batch) Flush(t *Table) {
	if b.n > 0 {
		t.put(b)
		clear(b.names[:b.n]) // they may be of a large listing
		b.n = 0
	}
}

func (t *Table) put(b *Batch) {
	// Places are far from each other: looked at at first all of them are on their way from
	// the memory at once.
	for _, sum := range b.sums[:b.n] {
		t.places[sum%sets][0].Load()
	}
	var missing uint32
	for i, sum := range b.sums[:b.n] {
		if _, name := t.find(sum); name != b.names[i] {
			missing |= 1 << i
		}
	}
	if missing == 0 {
		return
	}
	r := &run{dir: b.dir}
	end := 0
	for i, name := range b.names[:b.n] {
		end += len(name)
		r.sums[i], r.ends[i] = b.sums[i], uint16(end)
	}
	var names strings.Builder // of one name alone strings.Join would keep the whole listing
	names.Grow(end)
	for _, name := range b.names[:b.n] {
		names.WriteString(name)
	}
	r.names = names.String()
	at := int(t.made.Add(1) % runs)
	t.runs[at].Store(r)
	for i := range b.n {
		if missing>>i&1 != 0 {
			t.place(b.sums[i], placeOf(b.sums[i], at, i))
		}
	}
}

// place takes a place for a name: the one that it had, or a free one, or another's.
func (t *Table) place(sum uint64, p place) {
	set := &t.places[sum%sets]
	free := -1
	for i := range set {
		if was := set[i].Load(); was == 0 || was>>32 == sum>>32 {
			free = i
		}
	}
	if free < 0 {
		free = int(t.way.Add(1) % ways)
	}
	set[free].Store(uint64(p))
}
