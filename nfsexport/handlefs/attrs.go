package handlefs

import (
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/attrcache"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// Nobody but this server changes a mounted root: it lies below a directory that is
// root's alone, and each has one client. So attributes that were read are true until a
// call changes something, and the package attrcache knows when one does. What is not
// a call's doing is told late, by AttrAge at most: a change by somebody on the host,
// and the space that a file uses, which moves when the kernel writes out.

// attrAge is long enough for the calls that a client makes in a row for one file.
const attrAge = 100 * time.Millisecond

// attrs are an object's attributes. They never change.
type attrs struct {
	attrcache.Reading // by the time since FS.began
	st                unix.Stat_t
}

// reads begins a reading of attributes of the file with inode number ino; own is a
// change of the call that has done all its work, or nil.
func (o *op) reads(ino uint64, own *attrcache.Change) (r attrcache.Reading) {
	if o.fs.opts.AttrAge > 0 {
		r.Mark, r.OK = o.exp.tree.Mark(ino, own)
		r.At = o.since
	}
	return r
}

// holds says whether what was read then is true still.
func (o *op) holds(r *attrcache.Reading, ino uint64) bool {
	return r.OK && o.isFresh(r.At) && o.exp.tree.Holds(r.Mark, ino)
}

// isFresh says whether what was read then is young enough.
func (o *op) isFresh(at time.Duration) bool {
	// Another call may have looked at its clock later, and have been first.
	age := o.since - at
	return age < o.fs.opts.AttrAge && age > -o.fs.opts.AttrAge
}

// attributes gives the attributes of obj, as remembered if they are true still.
func (o *op) attributes(obj *object, st *unix.Stat_t) unix.Errno {
	if a := obj.attrs.Load(); a != nil && o.holds(&a.Reading, obj.ino) {
		*st = a.st
		return 0
	}
	return o.read(obj, st, nil)
}

// read reads the attributes of obj, and remembers them; own is a change of the call
// that has done all its work, or nil.
func (o *op) read(obj *object, st *unix.Stat_t, own *attrcache.Change) unix.Errno {
	r := o.reads(obj.ino, own)
	if e := rawfs.Stat(obj.fd, st); e != 0 {
		return e
	}
	if r.OK && st.Ino == obj.ino {
		obj.attrs.Store(&attrs{r, *st})
	}
	return 0
}

// alters begins a change of the export's tree; it ends with the call, or before at
// altered. It comes before the first thing that is changed.
func (o *op) alters() {
	if !o.alter.Running() {
		o.alter = o.exp.tree.Change()
	}
}

// altersFile is alters for a change that shows at obj alone.
func (o *op) altersFile(obj *object) {
	if !o.alter.Running() {
		o.alter = o.exp.tree.ChangeFile(obj.ino)
	}
}

// altered ends the change of the call, if there is one.
func (o *op) altered() { o.alter.End() }

// postNow fills a with the object's attributes of this moment.
func (o *op) postNow(obj *object, a *nfs3.PostAttr) {
	if o.counted == obj {
		o.post(&o.after, a)
		return
	}
	var st unix.Stat_t
	if o.read(obj, &st, &o.alter) == 0 {
		o.post(&st, a)
	}
}

// preNow fills a with the object's attributes of this moment: of the file system, as a
// client that sees the ones it knows takes all that follows for its own change (RFC 1813,
// section 2.6). Remembered ones would hide from it for good what was done on the host.
// They are not kept either: the call is about to change them.
func (o *op) preNow(obj *object, a *nfs3.PreAttr) {
	var st unix.Stat_t
	if rawfs.Stat(obj.fd, &st) == 0 {
		pre(&st, a)
	}
}
