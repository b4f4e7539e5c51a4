package handlefs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/commit"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// object is a file, directory or other thing that is open: one per handle,
// shared by all calls on it.
type object struct {
	id   uint64 // never used for another
	key  fhandle.Key
	wire [nfs3.MaxHandle]byte
	n    uint8 // bytes of wire
	root *root
	fd   int // O_PATH, or better
	typ  uint32
	ino  uint64

	refs atomic.Int32 // one is the cache's
	used atomic.Bool  // since the clock hand passed
	slot int          // in the shard's ring; guarded by the shard

	// dir is held for reading while entries of this directory are looked at
	// together, and for writing while they change, so that attributes before
	// and after a change are of this change alone. It is taken before open.
	dir     sync.RWMutex
	changes atomic.Uint64 // of the directory, by us
	listed  listing.Place // of the directory, when it was read last

	open  sync.Mutex     // held while ro or rw is opened
	ro    atomic.Int32   // for reading, or -1
	layer stamp.Identity // of the layer's file, see golden; set before inLayer
	rw    atomic.Int32   // for both, or -1
	dirty atomic.Bool    // unstable data since the last sync
	syncs commit.Group

	acl   atomic.Int32 // see perm.go
	share *share       // of the export's quota; its own, or that of its predecessor
	own   share
	left  bool                  // it is one of share.left; guarded by the shard
	gone  atomic.Bool           // it lost a name, and is out of the cache
	attrs atomic.Pointer[attrs] // see attrs.go

	// inLayer: ro reads the layer's file, see layer.go.
	inLayer atomic.Bool
}

func newObject(r *root, k *fhandle.Key, fd int, st *unix.Stat_t) *object {
	obj := &object{root: r, key: *k, fd: fd, typ: st.Mode & unix.S_IFMT, ino: st.Ino}
	obj.share = &obj.own
	obj.ro.Store(-1)
	obj.rw.Store(-1)
	obj.refs.Store(2) // the cache's and the caller's
	return obj
}

func (obj *object) handle() []byte { return obj.wire[:obj.n] }

func (obj *object) isDir() bool { return obj.typ == unix.S_IFDIR }

func (obj *object) isRoot() bool { return obj.key == obj.root.key }

// fds is the number of descriptors obj holds.
func (obj *object) fds() int64 {
	n := int64(1)
	if obj.ro.Load() >= 0 {
		n++
	}
	if rw := obj.rw.Load(); rw >= 0 && int(rw) != obj.fd {
		n++
	}
	return n
}

// reader gives a descriptor to read the call's object from, a regular file with the
// attributes o.st.
func (o *op) reader() (int, unix.Errno) {
	obj := o.obj
	if fd := obj.rw.Load(); fd >= 0 {
		return int(fd), 0
	}
	if fd := obj.ro.Load(); fd >= 0 && (!obj.inLayer.Load() || o.golden()) {
		return int(fd), 0
	}
	obj.open.Lock()
	defer obj.open.Unlock()
	fd := int(obj.ro.Load())
	switch {
	case fd < 0:
		if fd = o.openLayer(); fd < 0 {
			return o.openIO(obj, &obj.ro, unix.O_RDONLY)
		}
		obj.inLayer.Store(true)
		o.keep(&obj.ro, fd)
	case obj.inLayer.Load() && !o.golden():
		now, e := o.fs.proc.Reopen(obj.fd, unix.O_RDONLY)
		if e != 0 {
			return -1, e
		}
		defer unix.Close(now)
		return fd, obj.leaveLayer(now)
	}
	return fd, 0
}

// writer gives a descriptor to write to. obj is a regular file. Opening it
// copies a lower file up, which is a change of its own unless the call makes one.
func (o *op) writer(obj *object) (int, unix.Errno) {
	if fd := obj.rw.Load(); fd >= 0 {
		return int(fd), 0
	}
	o.copies(obj)
	if !o.alter.Running() {
		o.alters()
		defer o.altered()
	}
	obj.open.Lock()
	defer obj.open.Unlock()
	if fd := obj.rw.Load(); fd >= 0 {
		return int(fd), 0
	}
	fd, e := o.openIO(obj, &obj.rw, unix.O_RDWR)
	if e == 0 && obj.inLayer.Load() {
		_ = obj.leaveLayer(fd) // it is not read from any more
	}
	return fd, e
}

// openIO opens obj for I/O; obj.open is held. Only regular files come here: opening a
// fifo or a device that a board has made would block or reach the host's hardware.
func (o *op) openIO(obj *object, slot *atomic.Int32, flags int) (int, unix.Errno) {
	fd, e := o.fs.proc.Reopen(obj.fd, flags)
	if e != 0 {
		return -1, e
	}
	o.keep(slot, fd)
	return fd, 0
}

// keep keeps a descriptor with the object.
func (o *op) keep(slot *atomic.Int32, fd int) {
	slot.Store(int32(fd))
	o.fs.cache.fds.Add(1)
	o.fs.trim()
}

// close closes the descriptors, and lets go of the listing, which the next object of the
// handle does not take over. No one holds obj any more.
func (obj *object) close() {
	obj.root.fs.kept.Clear(&obj.listed)
	if fd := int(obj.ro.Load()); fd >= 0 {
		unix.Close(fd)
	}
	if fd := int(obj.rw.Load()); fd >= 0 && fd != obj.fd {
		unix.Close(fd)
	}
	unix.Close(obj.fd)
}
