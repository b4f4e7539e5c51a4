package handlefs

import (
	"sort"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// The cookies of the two names every directory has. 0 is the start.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// lister is the scratch memory of one ReadDir that goes on beyond a call frame.
type lister struct {
	entry  nfs3.Entry
	handle wireHandle
	st     unix.Stat_t
}

// ReadDir implements nfs3.FS. Entries come in the order of their cookies, which
// depend on nothing but the names: so a listing goes on rightly after entries
// came and went, after a copy-up, a remount and a restart, and no cookie is
// ever bad.
func (fs *FS) ReadDir(c *nfs3.Call, dir []byte, cookie uint64, verf *uint64, plus bool, add func(*nfs3.Entry) bool, a *nfs3.PostAttr) (eof bool, st nfs3.Status) {
	o, st := fs.begin(c, dir)
	if st != nfs3.OK {
		return false, st
	}
	defer o.end()
	*verf = 0
	o.post(&o.st, a)
	if !o.obj.isDir() {
		return false, nfs3.ErrNotDir
	}
	if !o.may(o.obj, &o.st, mayRead) {
		return false, nfs3.ErrAcces
	}
	// While entries are looked at none changes: a handle and the attributes
	// beside it are of one object.
	o.obj.dir.RLock()
	defer o.obj.dir.RUnlock()
	s, e := fs.snapshot(o, cookie)
	if e != 0 {
		return false, status(e)
	}
	eof = o.list(s, cookie, plus, add) && !s.more
	if o.alter.Running() {
		o.postNow(o.obj, a)
	}
	if eof && !s.settled {
		fs.snaps.drop(o.obj, s)
	} else if o.obj.snap.Load() != s {
		fs.snaps.keep(o.obj, s)
	}
	return eof, nfs3.OK
}

// list gives the entries after cookie to add; it is true when the last was taken.
func (o *op) list(s *snapshot, cookie uint64, plus bool, add func(*nfs3.Entry) bool) bool {
	l := &lister{}
	var name cname
	if cookie < cookieDot {
		name.set(".")
		if !o.emit(l, &name, nfs3.Entry{FileID: o.obj.ino, Name: ".", Cookie: cookieDot}, nil, plus, add) {
			return false
		}
	}
	if cookie < cookieDotDot {
		ent := nfs3.Entry{FileID: s.parent, Name: "..", Cookie: cookieDotDot}
		if name.set(".."); o.obj.isRoot() {
			name.set(".")
			ent.FileID = o.obj.ino
		}
		if !o.emit(l, &name, ent, nil, plus, add) {
			return false
		}
	}
	for i := sort.Search(len(s.ents), func(i int) bool { return s.ents[i].cookie > cookie }); i < len(s.ents); i++ {
		d := &s.ents[i]
		n := s.name(d)
		var at *atomic.Pointer[known]
		if plus && s.known != nil {
			at = &s.known[i]
			if k := at.Load(); k != nil && o.holds(&k.reading, k.attr.FileID) {
				l.entry = nfs3.Entry{
					FileID: k.attr.FileID, Name: n, Cookie: d.cookie,
					Attr: nfs3.PostAttr{OK: true, Attr: k.attr}, Handle: k.b[:k.n],
				}
				if !add(&l.entry) {
					return false
				}
				continue
			}
		}
		if plus {
			name.set(n)
		}
		if !o.emit(l, &name, nfs3.Entry{FileID: d.ino, Name: n, Cookie: d.cookie}, at, plus, add) {
			return false
		}
	}
	return true
}

// emit gives one entry to add, with plus also with attributes and handle. What
// is not there any more is passed over. Where at is not nil, the handle is
// taken from there, and what came to be known is kept there.
func (o *op) emit(l *lister, name *cname, ent nfs3.Entry, at *atomic.Pointer[known], plus bool, add func(*nfs3.Entry) bool) bool {
	l.entry = ent
	if !plus {
		return add(&l.entry)
	}
	var h *wireHandle
	var r reading
	if at != nil {
		if k := at.Load(); k != nil {
			h = &k.wireHandle
		}
		r = o.reads(ent.FileID, nil)
	}
	var e unix.Errno
	if h == nil {
		e = o.keyOf(o.obj, name)
	}
	if e == 0 {
		e = statAt(o.obj.fd, name, &l.st)
	}
	switch {
	case e == unix.ENOENT:
		return true
	case e == 0 && l.st.Dev == o.exp.root.dev:
		o.post(&l.st, &l.entry.Attr)
		r.ok = r.ok && l.st.Ino == ent.FileID // else the listing has it otherwise
		l.entry.FileID = l.st.Ino
		if h == nil {
			h = &l.handle
			h.n = o.fs.sealer.seal(&o.k, &h.b)
		}
		if at != nil {
			at.Store(&known{*h, r, l.entry.Attr.Attr})
		}
		l.entry.Handle = h.b[:h.n]
	}
	return add(&l.entry)
}
