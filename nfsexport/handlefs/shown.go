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
// kernel may know none. It is a table of fixed size: who comes later takes the place.
type shown struct {
	seed maphash.Seed
	next atomic.Uint32 // the way that is taken next
	sets [shownSets][shownWays]atomic.Pointer[shownName]
	// tags are of the names in sets, that one need not look at others to find it: they are
	// small enough for a processor's cache.
	tags [shownSets][shownWays]atomic.Uint32
}

// shownFiles times about 80 bytes is what it may take.
const (
	shownFiles = 1 << 17
	shownWays  = 4
	shownSets  = shownFiles / shownWays
)

// shownName never changes. Boards of one image share it: images may share files, but by
// other names.
type shownName struct {
	sum  uint64       // of the image and the kernel's handle
	dir  *fhandle.Key // some board's
	name string
}

// image is what roots over the same layers have in common.
func (s *shown) image(layers []string) uint64 {
	return maphash.String(s.seed, strings.Join(layers, "\x00"))
}

func (s *shown) sum(image uint64, k *fhandle.Key) uint64 {
	return maphash.Bytes(s.seed, k.Kernel()) ^ image
}

// tagOf is never 0, which is no name's.
func tagOf(sum uint64) uint32 { return uint32(sum>>32) | 1 }

// get gives the name in a place, if it is the one of sum.
func (s *shown) get(set uint64, way int, sum uint64) *shownName {
	if s.tags[set][way].Load() != tagOf(sum) {
		return nil
	}
	if e := s.sets[set][way].Load(); e != nil && e.sum == sum {
		return e
	}
	return nil
}

// put remembers the name of k in dir, which does not change after.
func (s *shown) put(image uint64, k, dir *fhandle.Key, name string) {
	sum := s.sum(image, k)
	set, free := sum%shownSets, -1
	for i := range shownWays {
		e := s.get(set, i, sum)
		if e != nil && e.name == name {
			return
		}
		if e != nil || s.tags[set][i].Load() == 0 {
			free = i
		}
	}
	if free < 0 {
		free = int(s.next.Add(1) % shownWays)
	}
	// Who comes in between finds nothing, or what is another's: both are only asked again.
	s.sets[set][free].Store(&shownName{sum: sum, dir: dir, name: strings.Clone(name)})
	s.tags[set][free].Store(tagOf(sum))
}

func (s *shown) find(image uint64, k *fhandle.Key) *shownName {
	sum := s.sum(image, k)
	for i := range shownWays {
		if e := s.get(sum%shownSets, i, sum); e != nil {
			return e
		}
	}
	return nil
}

// openShown opens what o.k stands for by the name that was told with its handle, if it
// has that name still; -1: it is to be opened by its handle.
func (o *op) openShown() int {
	r := o.exp.root
	e := o.fs.shown.find(r.image, &o.k)
	if e == nil {
		return -1
	}
	dir := *e.dir
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
	name.Set(e.name)
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
