package handlefs

import (
	"crypto/subtle"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/attrcache"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// op is one call while it runs: who calls, on what, and scratch memory, pooled.
type op struct {
	fs   *FS
	c    *nfs3.Call
	exp  *export
	obj  *object
	st   unix.Stat_t // of obj, when the call began
	name rawfs.Name
	h    fhandle.Kernel
	k    fhandle.Key

	lister   lister
	lower    belowDir    // see below.go
	dir      goldenDir   // see golden.go
	found    uint64      // see keyBelow
	opened   fhandle.Key // see toOpen
	removals uint64      // then

	time  time.Time        // when the call came
	since time.Duration    // from FS.began until then
	alter attrcache.Change // that the call makes now

	// counted was looked at for the export's quota after the call's work; it is then
	// as after says.
	counted *object
	after   unix.Stat_t

	room   int64      // taken of the disk, see fits
	large  bool       // holds a large listing, see claim
	locked [2]*object // for change, see lock
	// changing: the call went in by the export's gate.
	changing bool
}

// begin checks a handle and who uses it, and opens its object. Without OK there
// is no op. The MAC is checked before anything else is told or done.
func (fs *FS) begin(c *nfs3.Call, fh []byte) (*op, nfs3.Status) {
	o := fs.ops.Get().(*op)
	if o.c, o.time = c, c.Time; o.time.IsZero() {
		o.time = fs.opts.Now()
	}
	o.since = o.time.Sub(fs.began)
	begun := false
	defer func() { // also when something panics
		if !begun {
			o.end()
		}
	}()
	st := o.enter(fh)
	if begun = st == nfs3.OK; begun {
		return o, st
	}
	return nil, st
}

// lock locks directories for change, in an order that all callers share, until unlock
// or the end of the call, however it ends. b may be a.
func (o *op) lock(a, b *object) {
	if string(a.key[:]) > string(b.key[:]) {
		a, b = b, a
	}
	a.dir.Lock()
	o.locked[0] = a
	if a != b {
		b.dir.Lock()
		o.locked[1] = b
	}
}

// unlock ends what lock began; the directories have changed.
func (o *op) unlock() {
	for i, obj := range o.locked {
		if o.locked[i] = nil; obj != nil {
			obj.changes.Add(1)
			obj.dir.Unlock()
		}
	}
}

func (o *op) end() {
	fs := o.fs
	o.unlock()
	o.altered()
	if o.changing {
		o.exp.gate.Leave()
		o.changing = false
	}
	if o.obj != nil {
		fs.cache.release(o.obj)
	}
	if o.exp != nil && o.exp.root != nil {
		o.leaveRoom()
		o.unclaim()
		o.lower.close(o.exp.root)
		o.dir.close()
		o.exp.root.calls.Leave()
	}
	o.c, o.exp, o.obj, o.counted = nil, nil, nil, nil
	fs.ops.Put(o)
}

func (o *op) enter(fh []byte) nfs3.Status {
	fs := o.fs
	mac, ok := fhandle.Parse(fh, &o.k)
	if !ok {
		return o.forged()
	}
	var e *export
	for {
		e = (*fs.table.Load())[o.k.Export()]
		if e == nil || e.root == nil || e.root.calls.Enter() {
			break
		}
	}
	o.exp = e
	if e != nil && e.root != nil {
		o.obj = fs.cache.get(&o.k, e.root)
	}
	if o.obj != nil {
		if subtle.ConstantTimeCompare(fh, o.obj.handle()) != 1 {
			return o.forged()
		}
	} else if !fs.sealer.Verify(&o.k, mac) {
		return o.forged()
	}
	if e == nil && fs.doubt.Load() {
		return nfs3.ErrJukebox
	}
	if e == nil {
		return nfs3.ErrStale
	}
	if st := o.admit(); st != nfs3.OK {
		return st
	}
	if o.obj != nil {
		return o.stat()
	}
	var st nfs3.Status
	o.obj, st = o.openKey(&o.st)
	return st
}

// stat reads the attributes of the call's object. What has no name left is gone:
// its descriptors must not keep its space.
func (o *op) stat() nfs3.Status {
	if e := o.attributes(o.obj, &o.st); e != 0 {
		return status(e)
	}
	if o.st.Nlink == 0 {
		o.fs.cache.dropObject(o.obj)
		return nfs3.ErrStale
	}
	return nfs3.OK
}

// admit checks the caller's address and notes the call. Who may not use the
// export is told ACCES and not STALE: on STALE a Linux client gives up a root
// for good, and an address may be on its way to another board.
func (o *op) admit() nfs3.Status {
	e := o.exp
	if !e.Allowed(o.c.Peer) && !o.rebound() {
		e.Activity.Refused.Add(1)
		o.fs.event(Refused, slog.LevelDebug, "call refused", e.ID, nil)
		return nfs3.ErrAcces
	}
	o.c.Subject = &e.Export
	e.Activity.Calls.Add(1)
	now := o.now().UnixNano()
	if last := e.Activity.LastCall.Load(); now-last > int64(500*time.Millisecond) || now < last {
		e.Activity.LastCall.Store(now)
	}
	if e.State != nfsexport.Ready || e.root == nil {
		return nfs3.ErrJukebox
	}
	return nfs3.OK
}

// now is the time, to within how long the call has taken.
func (o *op) now() time.Time { return o.time }

// rebound asks whether the caller is the export's board on another address.
func (o *op) rebound() bool {
	return o.fs.opts.Rebind != nil && o.fs.opts.Rebind(o.exp.ID, o.c.Peer)
}

func (o *op) forged() nfs3.Status {
	o.fs.event(BadHandle, slog.LevelDebug, "bad file handle", 0, nil)
	return nfs3.ErrBadHandle
}

// openKey opens the object of o.k, whose MAC is right, and gives it held.
func (o *op) openKey(st *unix.Stat_t) (*object, nfs3.Status) {
	o.toOpen()
	fd := o.openShown()
	if fd < 0 {
		var e unix.Errno
		o.h.Set(&o.k)
		if fd, e = o.h.Open(o.exp.root.fd, unix.O_PATH); e != 0 {
			return nil, status(e)
		}
	}
	if e := rawfs.Stat(fd, st); e != 0 {
		unix.Close(fd)
		return nil, status(e)
	}
	if st.Nlink == 0 {
		unix.Close(fd)
		return nil, nfs3.ErrStale
	}
	return o.adopt(fd, st, false)
}

// adopt makes the held object of o.k from an open descriptor, which it takes;
// rw says that it is good for I/O. It stays open after the call unless its key is
// another than at toOpen, or something was removed since: that may have been this, and who
// removed it found nothing to close.
func (o *op) adopt(fd int, st *unix.Stat_t, rw bool) (*object, nfs3.Status) {
	if st.Dev != o.exp.root.dev {
		unix.Close(fd)
		o.fs.event(Foreign, slog.LevelWarn, "object on another device (xino=on is needed when layers and upper lie on different file systems)", o.exp.ID, nil)
		return nil, nfs3.ErrIO
	}
	obj := newObject(o.exp.root, &o.k, fd, st)
	obj.id = o.fs.cache.ids.Add(1)
	if rw {
		obj.rw.Store(int32(fd))
	}
	obj.n = o.fs.sealer.Seal(&o.k, &obj.wire)
	obj = o.fs.cache.insert(obj)
	if o.opened != obj.key || obj.root.removalsOf(&obj.key).Load() != o.removals {
		o.fs.cache.drop(&obj.key)
	}
	o.fs.trim()
	return obj, nfs3.OK
}

// another opens a second handle of the call into *obj, held until the caller
// releases it. Both must be of one export.
func (o *op) another(fh []byte, obj **object, st *unix.Stat_t) nfs3.Status {
	mac, ok := fhandle.Parse(fh, &o.k)
	if !ok || !o.fs.sealer.Verify(&o.k, mac) {
		return o.forged()
	}
	if o.k.Export() != o.exp.ID {
		return nfs3.ErrXDev
	}
	if *obj = o.fs.cache.get(&o.k, o.exp.root); *obj != nil {
		e := o.attributes(*obj, st)
		if e != 0 {
			o.fs.cache.release(*obj) // nobody else will
		}
		return status(e)
	}
	var s nfs3.Status
	*obj, s = o.openKey(st)
	return s
}

// keyOf puts the key of name in a directory into o.k. What is mounted there is not
// shown.
func (o *op) keyOf(dir *object, name *rawfs.Name) unix.Errno {
	if o.exp.root.layers != nil && o.keyBelow(dir, name) {
		return 0
	}
	if dir == o.obj && o.joined() {
		o.alters() // it may copy up
	}
	return o.keyAt(dir.fd, name)
}

// keyAt is keyOf by descriptors, and without a name of what dir is itself. It copies
// directories up, see below.go.
func (o *op) keyAt(dir int, name *rawfs.Name) unix.Errno {
	m, e := o.h.Of(dir, name)
	if e == unix.EOVERFLOW {
		m, e = o.handleInSpite(dir, name)
	}
	if e != 0 {
		return e
	}
	if m != o.exp.root.mount || !o.k.Set(&o.h) {
		return unix.EACCES
	}
	o.k.SetExport(o.exp.ID)
	return 0
}

// child gives the object of o.name in dir, held, and its attributes.
func (o *op) child(dir *object, st *unix.Stat_t) (*object, nfs3.Status) {
	return o.childNamed(dir, &o.name, st)
}

func (o *op) childNamed(dir *object, name *rawfs.Name, st *unix.Stat_t) (*object, nfs3.Status) {
	o.found = 0
	if e := o.keyOf(dir, name); e != 0 {
		return nil, status(e)
	}
	if obj := o.fs.cache.get(&o.k, o.exp.root); obj != nil {
		if e := o.attributes(obj, st); e == 0 && st.Nlink > 0 {
			return obj, nfs3.OK
		}
		o.fs.cache.dropObject(obj)
		o.fs.cache.release(obj)
	}
	o.toOpen()
	fd, e := rawfs.Open(dir.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if e != 0 {
		return nil, status(e)
	}
	if o.found != 0 && rawfs.Stat(fd, st) == 0 && st.Ino == o.found {
		return o.adopt(fd, st, false) // o.k is its key
	}
	return o.take(fd, st, false)
}

// named is child for a name that was asked for before, as a rule, in a directory
// with the attributes dst.
func (o *op) named(dir *object, dst *unix.Stat_t, name string, st *unix.Stat_t) (*object, nfs3.Status) {
	if isDots(name) { // ".." changes with a directory's own name
		return o.child(dir, st)
	}
	at := stamp.Of(dst)
	if n := o.fs.names.Find(dir.id, at, name); n != nil {
		if n.None {
			return nil, nfs3.ErrNoEnt
		}
		if obj := o.fs.cache.get(&n.Key, o.exp.root); obj != nil {
			if e := o.attributes(obj, st); e == 0 && st.Nlink > 0 {
				return obj, nfs3.OK
			}
			o.fs.cache.release(obj)
		}
	}
	settled := at.Settled(o.fs.stampTime()) // before the name is looked up
	obj, s := o.child(dir, st)
	if s != nfs3.OK && s != nfs3.ErrNoEnt {
		return obj, s
	}
	if settled {
		var k fhandle.Key
		if k.SetExport(o.exp.ID); obj != nil {
			k = obj.key
		}
		o.fs.names.Keep(dir.id, at, name, obj == nil, &k)
	}
	return obj, s
}

// toOpen is for just before what o.k stands for is opened, by handle or by name.
func (o *op) toOpen() { o.opened, o.removals = o.k, o.exp.root.removalsOf(&o.k).Load() }

// take makes the held object of an open descriptor, which it takes. With rw it was made
// just now, in a directory that is locked.
func (o *op) take(fd int, st *unix.Stat_t, rw bool) (*object, nfs3.Status) {
	e := rawfs.Stat(fd, st)
	if e == 0 {
		e = o.keyAt(fd, nil)
	}
	if rw {
		o.toOpen() // nobody removes it
	}
	if e != 0 {
		unix.Close(fd)
		return nil, status(e)
	}
	return o.adopt(fd, st, rw)
}

// setName takes over the name of an entry. A name that no directory can hold is
// refused as the kernel's server does.
func (o *op) setName(n *rawfs.Name, name string) nfs3.Status {
	switch {
	case name == "" || strings.ContainsAny(name, "/\x00"):
		return nfs3.ErrAcces
	case len(name) > nfs3.MaxName:
		return nfs3.ErrNameTooLong
	}
	n.Set(name)
	return nfs3.OK
}

func isDots(name string) bool { return name == "." || name == ".." }
