package handlefs

import (
	"log/slog"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// How an export's quota is kept where the kernel keeps none. Before a call the room
// that it may need is taken, or the call is refused; after it what it came to is
// counted, by the blocks of the objects it changed, and the rest is given back. So
// calls that run at the same time cannot pass the limit together, and what was
// acknowledged has its room. Removing asks for none.
//
// Not counted are the directories above that a change copies up, and blocks that
// hold nothing but a large file's own bookkeeping: little, and whoever counts on disk
// (nfsexport.Quota.Counted) puts it right.

// blockSize is what space is taken in: that of nearly every file system.
const blockSize = 4096

func roundUp(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

// takes is the space of an object. What a file system keeps ready behind the end of
// a file (xfs) is not the board's doing.
func takes(st *unix.Stat_t) int64 {
	b := st.Blocks * 512
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		b = min(b, roundUp(st.Size))
	}
	return b
}

// share is what is counted for an object: nothing as long as it is golden.
type share struct {
	mu sync.Mutex
	// known is the number of the count on disk since which bytes is right, plus 1.
	known uint64
	bytes int64
	// found is what it had when that was learnt, and not counted.
	found int64
	upper bool // it is the board's: in the upper
	gone  bool // its last name is removed, and it counts no more
	// left is how many objects have it that left the cache with calls at work on them;
	// guarded by the shard.
	left int
}

// held runs f while nobody else is at the share.
func (s *share) held(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// learn makes the share right for before the call; share.mu is held. It looks itself:
// what the call saw of the object may be of before another call, whose share is gone,
// and which would be counted twice.
func (o *op) learn(q *nfsexport.Quota, obj *object) {
	s := obj.share
	if known := uint64(q.Round()) + 1; s.known != known && !s.gone {
		var st unix.Stat_t
		if rawfs.Stat(obj.fd, &st) != 0 {
			return
		}
		if s.gone = s.known == 0 && st.Nlink == 0; s.gone {
			return // removed after it was opened, and counted out by who did that
		}
		s.known, s.bytes = known, 0
		if s.upper = s.upper || o.inUpper(&obj.key); s.upper {
			s.bytes = takes(&st)
		}
		s.found = s.bytes
	}
}

// recount counts what an object that is the board's takes now; share.mu is held.
func (s *share) recount(q *nfsexport.Quota, st *unix.Stat_t) {
	if s.gone {
		return
	}
	files := int64(0)
	if !s.upper {
		s.upper, files = true, 1
	}
	now := takes(st)
	q.Add(now-s.bytes, files)
	s.bytes = now
}

// inUpper says whether an object is the board's own: made by it, or copied up.
func (o *op) inUpper(k *fhandle.Key) bool {
	if !k.Lower() {
		return true
	}
	var name [fhandle.MaxIndexName]byte
	k.IndexName(&name)
	_, _, e := unix.Syscall6(unix.SYS_FACCESSAT2, uintptr(o.exp.root.index), uintptr(unsafe.Pointer(&name[0])), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return e == 0
}

// openDisk opens what tells of the file system below the overlay and of what was
// copied up; without them their answers are those of the overlay, and "nothing".
func (r *root) openDisk(upper, index string) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if fd, err := unix.Open(filepath.Clean(upper), flags, 0); upper != "" && err == nil {
		r.disk = fd
	}
	// No O_PATH: handles are opened by it, see openLayer.
	if fd, err := unix.Open(filepath.Clean(index), flags&^unix.O_PATH, 0); index != "" && err == nil {
		r.index = fd
	}
}

// quota is the export's quota when there is one to be kept here, else nil.
func (o *op) quota() *nfsexport.Quota {
	if q := o.exp.Quota; q.Counts() {
		return q
	}
	return nil
}

// spending is the room taken for a call. The zero one is that of a call that is not
// counted.
type spending struct {
	o            *op
	q            *nfsexport.Quota
	bytes, files int64
}

// spend takes the room that a call may need.
func (o *op) spend(q *nfsexport.Quota, bytes, files int64) (spending, nfs3.Status) {
	if q == nil {
		return spending{}, nfs3.OK
	}
	if !q.Take(bytes, files) {
		if q.Tell(o.now()) {
			o.fs.event(QuotaFull, slog.LevelWarn, "the board's quota is used up: what needs more is refused", o.exp.ID, nil)
		}
		return spending{}, nfs3.ErrDQuot
	}
	return spending{o, q, bytes, files}, nfs3.OK
}

// end counts what the call made of objs, and gives back what was taken.
func (s *spending) end(objs ...*object) {
	if s.q == nil {
		return
	}
	for _, obj := range objs {
		s.count(obj)
	}
	s.q.Add(-s.bytes, -s.files)
}

// watch is for a call that changes obj and asks for no room; end must follow.
func (o *op) watch(obj *object) spending {
	q := o.quota()
	if q == nil {
		return spending{}
	}
	obj.share.held(func() { o.learn(q, obj) })
	return spending{o: o, q: q}
}

// spendOn takes the room for a call that changes obj, found as st, and needs so much
// besides: a golden object is copied up.
func (o *op) spendOn(obj *object, st *unix.Stat_t, bytes, files int64) (spending, nfs3.Status) {
	q := o.quota()
	if q == nil {
		return spending{}, nfs3.OK
	}
	obj.share.held(func() {
		if o.learn(q, obj); !obj.share.upper && !obj.share.gone {
			bytes, files = bytes+takes(st), files+1
		}
	})
	return o.spend(q, bytes, files)
}

// count counts what obj takes now.
func (s *spending) count(obj *object) {
	obj.share.mu.Lock()
	defer obj.share.mu.Unlock()
	st := &s.o.after
	s.o.counted = nil
	if rawfs.Stat(obj.fd, st) != 0 {
		return
	}
	s.o.counted = obj
	if obj.share.upper || s.o.inUpper(&obj.key) {
		obj.share.recount(s.q, st)
	}
}

// made counts an object that the call has made.
func (s *spending) made(obj *object, st *unix.Stat_t) {
	if s.q == nil {
		return
	}
	obj.share.mu.Lock()
	defer obj.share.mu.Unlock()
	if obj.share.known != 0 { // another call was here already, and found it there
		s.q.Add(obj.share.found, 1)
		return
	}
	obj.share.known = uint64(s.q.Round()) + 1
	obj.share.recount(s.q, st)
}

// spendMaking takes the room for a new object in the call's directory.
func (o *op) spendMaking() (spending, nfs3.Status) {
	if o.room() != roomy {
		return spending{}, nfs3.ErrNoSpc
	}
	return o.spendOn(o.obj, &o.st, blockSize, 1)
}

// spendSetAttr takes the room for a change of attributes.
func (o *op) spendSetAttr(obj *object, st *unix.Stat_t, s *nfs3.SetAttr) (spending, nfs3.Status) {
	if o.quota() != nil && cutsAll(obj, st, s) {
		cut := *st
		cut.Size, cut.Blocks = 0, 0 // what is copied up of a golden file: its name
		upper := false
		obj.share.held(func() {
			o.learn(o.quota(), obj)
			upper = obj.share.upper
		})
		if !upper {
			st = &cut
		}
	}
	need := int64(0)
	if s.SetSize && s.Size > uint64(st.Size) {
		need = lastBlock(st)
	}
	return o.spendOn(obj, st, need, 0)
}

// lastBlock is the space that a file may take when it grows to somewhere behind its last
// block: btrfs fills that with zeros, also where it is in a hole.
func lastBlock(st *unix.Stat_t) int64 {
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size%blockSize != 0 && st.Blocks*512 < st.Size {
		return blockSize
	}
	return 0
}

// spendWrite takes the room for a write to the call's object. A golden file is copied
// up here, by one call while those beside it wait: each would take room for it.
func (o *op) spendWrite(q *nfsexport.Quota, off uint64, n int) (spending, nfs3.Status) {
	st, s := o.st, nfs3.OK
	obj := o.obj
	obj.share.held(func() {
		if o.learn(q, obj); !obj.share.upper && !obj.share.gone {
			s = o.lift(q, &st)
		}
	})
	if s != nfs3.OK {
		return spending{}, s
	}
	need := o.growth(&st, int64(off), int64(n))
	return o.spend(q, need, 0)
}

// lift copies the call's golden file up; share.mu is held.
func (o *op) lift(q *nfsexport.Quota, st *unix.Stat_t) nfs3.Status {
	sp, s := o.spend(q, takes(st), 1)
	if s != nfs3.OK {
		return s
	}
	_, e := o.writer(o.obj)
	if e == 0 {
		e = rawfs.Stat(o.obj.fd, st)
	}
	if e == 0 {
		o.obj.share.recount(q, st)
	}
	sp.end()
	return status(e)
}

// growth is the space that a write to a file of the board's own may take at most.
func (o *op) growth(st *unix.Stat_t, off, n int64) int64 {
	end := off + n
	if end <= roundUp(st.Size) && st.Blocks*512 >= st.Size {
		return 0 // no holes, and not past the last block
	}
	if end <= st.Size { // a hole somewhere: not here?
		if fd, e := o.reader(); e == 0 {
			if hole, err := unix.Seek(fd, off, unix.SEEK_HOLE); err == nil && hole >= end {
				return 0
			}
		}
	}
	need := roundUp(end) - off&^(blockSize-1)
	if off >= roundUp(st.Size) {
		need += lastBlock(st)
	}
	return need
}

// entry is a name that a call takes away or gives to another object, with what it
// names; it is zero when that is not counted.
type entry struct {
	o   *op
	q   *nfsexport.Quota
	obj *object // held
	st  unix.Stat_t
}

// entry looks at what a name stands for. o.k is its key after it.
func (o *op) entry(dir *object, name *rawfs.Name) (n entry) {
	q := o.quota()
	if q == nil {
		return entry{}
	}
	obj, s := o.childNamed(dir, name, &n.st)
	if s != nfs3.OK {
		return entry{}
	}
	n.o, n.q, n.obj = o, q, obj
	obj.share.held(func() { o.learn(q, obj) })
	return n
}

func (n *entry) release() {
	if n.obj != nil {
		n.o.fs.cache.release(n.obj)
		n.obj = nil
	}
}

// removed counts the object out when that was its last name. Whether it was is asked
// now: names in other directories may have come and gone at the same time.
func (n *entry) removed() {
	if n.q == nil {
		return
	}
	s := n.obj.share
	s.mu.Lock()
	defer s.mu.Unlock()
	last := n.st.Nlink <= 1 || n.obj.isDir()
	var st unix.Stat_t
	if s.upper && !n.obj.isDir() && rawfs.Stat(n.obj.fd, &st) == 0 {
		last = st.Nlink == 0
	}
	if !last {
		// Overlayfs copies a golden file up to count its names.
		if !s.upper && rawfs.Stat(n.obj.fd, &st) == 0 && n.o.inUpper(&n.obj.key) {
			s.recount(n.q, &st)
		}
		return
	}
	if s.upper && !s.gone {
		n.q.Add(-s.bytes, -1)
	}
	s.gone = true
}

// spend takes the room to give the object another name: a golden one is copied up.
func (n *entry) spend() (spending, nfs3.Status) {
	if n.q == nil {
		return spending{}, nfs3.OK
	}
	return n.o.spendOn(n.obj, &n.st, 0, 0)
}
