package handlefs

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
)

// shown remembers the names of golden files whose handles clients have, and of which the
// kernel may know none. It is a table of fixed size: who comes later takes the place. Names
// that a listing told together lie together.
type shown struct {
	seed maphash.Seed
	made atomic.Uint32 // runs until now
	way  atomic.Uint32 // the way that is taken next
	runs [shownRuns]atomic.Pointer[shownRun]
	// places are where names are, by their sums. None of them is a pointer, which collecting
	// garbage would have to follow.
	places [shownSets][shownWays]atomic.Uint64
}

// shownRuns times about 500 bytes is what it may take.
const (
	shownRuns  = 1 << 14
	shownFiles = 1 << 17
	shownWays  = 4
	shownSets  = shownFiles / shownWays
)

// shownRun is up to runLen names of one directory. It never changes. Boards of one image share
// it: images may share files, but by other names.
type shownRun struct {
	dir   *fhandle.Key   // some board's
	sums  [runLen]uint64 // of the image and the kernel's handle; 0: there is none
	names string
	ends  [runLen]uint16 // of each in names
}

func (r *shownRun) name(i int) string {
	begin := uint16(0)
	if i > 0 {
		begin = r.ends[i-1]
	}
	return r.names[begin:r.ends[i]]
}

// shownPlace is the upper half of a name's sum, the place of its run, and its own in that. 0: none.
type shownPlace uint64

func placeOf(sum uint64, run, i int) shownPlace {
	return shownPlace(sum>>32<<32 | uint64(run*runLen+i))
}

// image is what roots over the same layers have in common.
func (s *shown) image(layers []string) uint64 {
	return maphash.String(s.seed, strings.Join(layers, "\x00"))
}

// sum is never below 1<<32, so that no place is 0.
func (s *shown) sum(image uint64, k *fhandle.Key) uint64 {
	return maphash.Bytes(s.seed, k.Kernel()) ^ image | 1<<63
}

// find gives a name with its directory; "": it is not remembered.
func (s *shown) find(sum uint64) (dir *fhandle.Key, name string) {
	for i := range shownWays {
		p := s.places[sum%shownSets][i].Load()
		if p>>32 != sum>>32 {
			continue
		}
		// The run may be another by now.
		at := int(uint32(p))
		if r := s.runs[at/runLen].Load(); r != nil && r.sums[at%runLen] == sum {
			return r.dir, r.name(at % runLen)
		}
	}
	return nil, ""
}

// shownBatch is what a listing tells.
type shownBatch struct {
	n     int
	dir   *fhandle.Key
	sums  [runLen]uint64
	names [runLen]string
}

// shows is for a name in the call's directory, of what o.k stands for, that is about to be told.
func (o *op) shows(name string) {
	b := &o.lister.shown
	if b.n == runLen || b.dir != o.dir.key {
		o.showsAll()
	}
	b.dir, b.sums[b.n], b.names[b.n] = o.dir.key, o.fs.shown.sum(o.exp.root.image, &o.k), name
	b.n++
}

// showsAll remembers the names of which shows was told. It comes before the call's end.
func (o *op) showsAll() {
	b := &o.lister.shown
	if b.n > 0 {
		o.fs.shown.put(b)
		clear(b.names[:b.n]) // they may be of a large listing
		b.n = 0
	}
}

func (s *shown) put(b *shownBatch) {
	// Places are far from each other: looked at at first all of them are on their way from
	// the memory at once.
	for _, sum := range b.sums[:b.n] {
		s.places[sum%shownSets][0].Load()
	}
	var missing uint32
	for i, sum := range b.sums[:b.n] {
		if _, name := s.find(sum); name != b.names[i] {
			missing |= 1 << i
		}
	}
	if missing == 0 {
		return
	}
	r := &shownRun{dir: b.dir}
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
	at := int(s.made.Add(1) % shownRuns)
	s.runs[at].Store(r)
	for i := range b.n {
		if missing>>i&1 != 0 {
			s.place(b.sums[i], placeOf(b.sums[i], at, i))
		}
	}
}

// place takes a place for a name: the one that it had, or a free one, or another's.
func (s *shown) place(sum uint64, p shownPlace) {
	set := &s.places[sum%shownSets]
	free := -1
	for i := range set {
		if was := set[i].Load(); was == 0 || was>>32 == sum>>32 {
			free = i
		}
	}
	if free < 0 {
		free = int(s.way.Add(1) % shownWays)
	}
	set[free].Store(uint64(p))
}

// openShown opens what o.k stands for by the name that was told with its handle, if it
// has that name still; -1: it is to be opened by its handle.
func (o *op) openShown() int {
	r := o.exp.root
	of, called := o.fs.shown.find(o.fs.shown.sum(r.image, &o.k))
	if of == nil {
		return -1
	}
	dir := *of
	dir.SetExport(o.exp.ID)
	h := &o.h
	at := -1
	if obj := o.fs.cache.get(&dir, r); obj != nil {
		defer o.fs.cache.release(obj)
		at = obj.fd
	} else {
		h.Set(&dir)
		fd, err := h.Open(r.fd, unix.O_PATH|unix.O_DIRECTORY)
		if err != 0 {
			return -1
		}
		defer unix.Close(fd)
		at = fd
	}
	var name rawfs.Name
	name.Set(called)
	fd, err := rawfs.Open(at, &name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != 0 {
		return -1
	}
	var own fhandle.Kernel
	h.Set(&o.k)
	if m, err := own.Of(fd, nil); err != 0 || m != r.mount || !own.Equal(h) {
		unix.Close(fd)
		return -1
	}
	return fd
}
