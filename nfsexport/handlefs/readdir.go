package handlefs

import (
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/shown"
	"rubus/nfsexport/nfs3"
)

// lister is the scratch memory of a listing.
type lister struct {
	entry  nfs3.Entry
	name   rawfs.Name
	typ    uint8 // of the entry, as getdents64 has it
	handle [nfs3.MaxHandle]byte
	st     unix.Stat_t
	at     time.Duration // since when entry is true, see FS.began
	golden bool          // its layer was asked
	shown  shown.Batch
}

// ReadDir implements nfs3.FS. Entries come in the order of their cookies, which
// depend on nothing but the names: so a listing goes on rightly after entries
// came and went, after a copy-up, a remount and a restart, and no cookie is
// ever bad.
func (fs *FS) ReadDir(c *nfs3.Call, dir []byte, cookie uint64, verf *uint64, plus bool, to nfs3.Entries, a *nfs3.PostAttr) (eof bool, st nfs3.Status) {
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
	if !o.may(o.obj, &o.st, creds.Read) {
		return false, nfs3.ErrAcces
	}
	// While entries are looked at none changes: a handle and the attributes
	// beside it are of one object.
	o.obj.dir.RLock()
	defer o.obj.dir.RUnlock()
	s, e := o.listing(cookie)
	if e != 0 {
		return false, status(e)
	}
	eof = o.list(s, cookie, plus, to) && !s.More()
	o.lister.shown.Flush(fs.shown)
	o.lister.entry = nfs3.Entry{} // its name may be of a large listing
	if o.alter.Running() {
		o.postNow(o.obj, a)
	}
	if eof && !s.Settled() {
		fs.kept.Drop(&o.obj.listed, s)
	} else if o.obj.listed.Last() != s {
		fs.kept.Keep(&o.obj.listed, s)
	}
	return eof, nfs3.OK
}

// list gives the entries after cookie; it is true when the last was taken.
func (o *op) list(s *listing.Listing, cookie uint64, plus bool, to nfs3.Entries) bool {
	if cookie < listing.CookieDot && !o.emitSelf(nfs3.Entry{Name: ".", Cookie: listing.CookieDot}, plus, to) {
		return false
	}
	if cookie < listing.CookieDotDot {
		ent := nfs3.Entry{FileID: s.Parent(), Name: "..", Cookie: listing.CookieDotDot}
		o.lister.typ = unix.DT_DIR
		if o.obj.isRoot() && !o.emitSelf(ent, plus, to) || !o.obj.isRoot() && !o.emit(ent, plus, to) {
			return false
		}
	}
	for i := s.From(cookie); i < s.Len(); {
		if plus && s.HasRuns() {
			if r, n := o.run(s, i/listing.RunLen), i%listing.RunLen; r != nil {
				took := to.AddRun(&r.Run, n)
				if i += took; n+took < r.Len() {
					return false
				}
				continue
			}
		}
		d := s.Entry(i)
		o.lister.typ = d.Type
		if !o.emit(nfs3.Entry{FileID: d.Ino, Name: s.Name(d), Cookie: d.Cookie}, plus, to) {
			return false
		}
		i++
	}
	return true
}

// emitSelf is emit for an entry that is the call's directory.
func (o *op) emitSelf(ent nfs3.Entry, plus bool, to nfs3.Entries) bool {
	l := &o.lister
	l.entry = ent
	l.entry.FileID = o.obj.ino
	if plus && o.attributes(o.obj, &l.st) == 0 {
		o.post(&l.st, &l.entry.Attr)
		l.entry.Handle = o.obj.handle()
	}
	return to.Add(&l.entry)
}

// emit gives one entry, with plus also with attributes and handle. What is not there
// any more is passed over.
func (o *op) emit(ent nfs3.Entry, plus bool, to nfs3.Entries) bool {
	o.lister.entry = ent
	if plus && o.look(nil) == unix.ENOENT {
		return true
	}
	return to.Add(&o.lister.entry)
}

// look adds attributes and handle to the entry of o.lister, which has its type and whose handle is h if it is
// known. Without an error there may be none: of what is not on the export's mount.
func (o *op) look(h []byte) unix.Errno {
	l := &o.lister
	l.name.Set(l.entry.Name)
	l.at = o.since
	if l.golden = o.lookGolden(l.entry.FileID, h); !l.golden {
		if h == nil {
			if e := o.keyOf(o.obj, &l.name); e != 0 {
				return e
			}
		}
		if e := rawfs.StatAt(o.obj.fd, &l.name, &l.st); e != 0 || l.st.Dev != o.exp.root.dev {
			return e
		}
	}
	o.post(&l.st, &l.entry.Attr)
	l.entry.FileID = l.st.Ino
	if h == nil {
		h = l.handle[:o.fs.sealer.Seal(&o.k, &l.handle)]
	}
	l.entry.Handle = h
	return 0
}
