package handlefs

import (
	"log/slog"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/spending"
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

// share is what is counted for an object, by it and by those with its handle after it.
type share struct {
	spending.Share
	// left is how many objects have it that left the cache with calls at work on them;
	// guarded by the shard.
	left int
}

// learn makes the share right for before the call; it is locked. It looks itself:
// what the call saw of the object may be of before another call, whose share is gone,
// and which would be counted twice.
func (o *op) learn(q *nfsexport.Quota, obj *object) {
	s := obj.share
	var st unix.Stat_t
	if s.Unknown(q) && rawfs.Stat(obj.fd, &st) == 0 {
		s.Learn(q, &st, s.Upper() || o.inUpper(&obj.key))
	}
}

// held runs f while nobody else is at the share.
func (s *share) held(f func()) {
	s.Lock()
	defer s.Unlock()
	f()
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

// quota is the export's quota when there is one to be kept here, else nil.
func (o *op) quota() *nfsexport.Quota {
	if q := o.exp.Quota; q.Counts() {
		return q
	}
	return nil
}

// taken is the room taken for a call. The zero one is that of a call that is not
// counted.
type taken struct {
	o            *op
	q            *nfsexport.Quota
	bytes, files int64
}

// spend takes the room that a call may need.
func (o *op) spend(q *nfsexport.Quota, bytes, files int64) (taken, nfs3.Status) {
	if q == nil {
		return taken{}, nfs3.OK
	}
	if !q.Take(bytes, files) {
		if q.Tell(o.now()) {
			o.fs.event(QuotaFull, slog.LevelWarn, "the board's quota is used up: what needs more is refused", o.exp.ID, nil)
		}
		return taken{}, nfs3.ErrDQuot
	}
	return taken{o, q, bytes, files}, nfs3.OK
}

// end counts what the call made of objs, and gives back what was taken.
func (s *taken) end(objs ...*object) {
	if s.q == nil {
		return
	}
	for _, obj := range objs {
		s.count(obj)
	}
	s.q.Add(-s.bytes, -s.files)
}

// watch is for a call that changes obj and asks for no room; end must follow.
func (o *op) watch(obj *object) taken {
	q := o.quota()
	if q == nil {
		return taken{}
	}
	obj.share.held(func() { o.learn(q, obj) })
	return taken{o: o, q: q}
}

// spendOn takes the room for a call that changes obj, found as st, and needs so much
// besides: a golden object is copied up.
func (o *op) spendOn(obj *object, st *unix.Stat_t, bytes, files int64) (taken, nfs3.Status) {
	q := o.quota()
	if q == nil {
		return taken{}, nfs3.OK
	}
	obj.share.held(func() {
		if o.learn(q, obj); obj.share.Golden() {
			bytes, files = bytes+spending.Bytes(st), files+1
		}
	})
	return o.spend(q, bytes, files)
}

// count counts what obj takes now.
func (s *taken) count(obj *object) {
	obj.share.Lock()
	defer obj.share.Unlock()
	st := &s.o.after
	s.o.counted = nil
	if rawfs.Stat(obj.fd, st) != 0 {
		return
	}
	s.o.counted = obj
	if obj.share.Upper() || s.o.inUpper(&obj.key) {
		obj.share.Count(s.q, st)
	}
}

// made counts an object that the call has made.
func (s *taken) made(obj *object, st *unix.Stat_t) {
	if s.q == nil {
		return
	}
	obj.share.held(func() { obj.share.Made(s.q, st) })
}

// spendMaking takes the room for a new object in the call's directory.
func (o *op) spendMaking() (taken, nfs3.Status) {
	if !o.fitsMaking() {
		return taken{}, nfs3.ErrNoSpc
	}
	return o.spendOn(o.obj, &o.st, spending.Block, 1)
}

// spendSetAttr takes the room for a change of attributes.
func (o *op) spendSetAttr(obj *object, st *unix.Stat_t, s *nfs3.SetAttr) (taken, nfs3.Status) {
	if o.quota() != nil && cutsAll(obj, st, s) {
		cut := *st
		cut.Size, cut.Blocks = 0, 0 // what is copied up of a golden file: its name
		obj.share.held(func() {
			if o.learn(o.quota(), obj); !obj.share.Upper() {
				st = &cut
			}
		})
	}
	need := int64(0)
	if s.SetSize && s.Size > uint64(st.Size) {
		need = spending.LastBlock(st)
	}
	return o.spendOn(obj, st, need, 0)
}

// spendWrite takes the room for a write to the call's object. A golden file is copied
// up here, by one call while those beside it wait: each would take room for it.
func (o *op) spendWrite(q *nfsexport.Quota, off uint64, n int) (taken, nfs3.Status) {
	st, s := o.st, nfs3.OK
	obj := o.obj
	obj.share.held(func() {
		if o.learn(q, obj); obj.share.Golden() {
			s = o.lift(q, &st)
		}
	})
	if s != nfs3.OK {
		return taken{}, s
	}
	need, inside := spending.Growth(&st, int64(off), int64(n))
	if inside && o.isWhole(int64(off), int64(n)) {
		need = 0
	}
	return o.spend(q, need, 0)
}

// lift copies the call's golden file up; its share is locked.
func (o *op) lift(q *nfsexport.Quota, st *unix.Stat_t) nfs3.Status {
	sp, s := o.spend(q, spending.Bytes(st), 1)
	if s != nfs3.OK {
		return s
	}
	_, e := o.writer(o.obj)
	if e == 0 {
		e = rawfs.Stat(o.obj.fd, st)
	}
	if e == 0 {
		o.obj.share.Count(q, st)
	}
	sp.end()
	return status(e)
}

// isWhole says whether the call's file has no hole in the n bytes at off, which are in it.
func (o *op) isWhole(off, n int64) bool {
	fd, e := o.reader()
	if e != 0 {
		return false
	}
	hole, err := unix.Seek(fd, off, unix.SEEK_HOLE)
	return err == nil && hole >= off+n
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
	s.Lock()
	defer s.Unlock()
	last := n.st.Nlink <= 1 || n.obj.isDir()
	var st unix.Stat_t
	if s.Upper() && !n.obj.isDir() && rawfs.Stat(n.obj.fd, &st) == 0 {
		last = st.Nlink == 0
	}
	switch {
	case last:
		s.Removed(n.q)
	case !s.Upper() && rawfs.Stat(n.obj.fd, &st) == 0 && n.o.inUpper(&n.obj.key):
		s.Count(n.q, &st) // overlayfs copies a golden file up to count its names
	}
}

// spend takes the room to give the object another name: a golden one is copied up.
func (n *entry) spend() (taken, nfs3.Status) {
	if n.q == nil {
		return taken{}, nfs3.OK
	}
	return n.o.spendOn(n.obj, &n.st, 0, 0)
}
