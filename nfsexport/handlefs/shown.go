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
	sets [shownFiles / shownWays][shownWays]atomic.Pointer[shownName]
}

// shownFiles times about 120 bytes is what it may take.
const (
	shownFiles = 1 << 17
	shownWays  = 4
)

// shownName never changes. Boards of one image share it: images may share files, but by
// other names.
type shownName struct {
	image uint64
	dir   *fhandle.Key // some board's
	name  string
	fh    [fhandle.MaxKernel]byte // the kernel's handle
	n     uint8
}

// image is what roots over the same layers have in common.
func (s *shown) image(layers []string) uint64 {
	return maphash.String(s.seed, strings.Join(layers, "\x00"))
}

func (s *shown) set(image uint64, fh []byte) *[shownWays]atomic.Pointer[shownName] {
	return &s.sets[(maphash.Bytes(s.seed, fh)^image)%uint64(len(s.sets))]
}

func (e *shownName) is(image uint64, fh []byte) bool {
	return e != nil && e.image == image && string(e.fh[:e.n]) == string(fh)
}

// put remembers the name of k in dir, which does not change after.
func (s *shown) put(image uint64, k, dir *fhandle.Key, name string) {
	set := s.set(image, k.Kernel())
	free := -1
	for i := range set {
		e := set[i].Load()
		if e.is(image, k.Kernel()) && e.name == name {
			return
		}
		if e == nil || e.is(image, k.Kernel()) {
			free = i
		}
	}
	e := &shownName{image: image, dir: dir, name: strings.Clone(name)}
	e.n = uint8(copy(e.fh[:], k.Kernel()))
	if free < 0 {
		free = int(s.next.Add(1) % shownWays)
	}
	set[free].Store(e)
}

func (s *shown) find(image uint64, k *fhandle.Key) *shownName {
	set := s.set(image, k.Kernel())
	for i := range set {
		if e := set[i].Load(); e.is(image, k.Kernel()) {
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
