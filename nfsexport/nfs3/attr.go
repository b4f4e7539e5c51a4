package nfs3

import (
	"encoding/binary"

	"rubus/nfsexport/xdr"
)

// attrSize is the length of a fattr3, fsidAt where in it the fsid is, postSize the length of
// a post_op_attr with one.
const (
	attrSize = 84
	fsidAt   = 44
	postSize = 4 + attrSize
)

// putAttr writes a fattr3 (RFC 1813 section 2.5) into b, of attrSize bytes.
func putAttr(b []byte, a *Attr) {
	b = b[:attrSize]
	be := binary.BigEndian
	be.PutUint32(b[0:], uint32(a.Type))
	be.PutUint32(b[4:], a.Mode)
	be.PutUint32(b[8:], a.Nlink)
	be.PutUint32(b[12:], a.UID)
	be.PutUint32(b[16:], a.GID)
	be.PutUint64(b[20:], a.Size)
	be.PutUint64(b[28:], a.Used)
	be.PutUint32(b[36:], a.Major)
	be.PutUint32(b[40:], a.Minor)
	be.PutUint64(b[fsidAt:], a.FSID)
	be.PutUint64(b[52:], a.FileID)
	be.PutUint32(b[60:], a.Atime.Sec)
	be.PutUint32(b[64:], a.Atime.Nsec)
	be.PutUint32(b[68:], a.Mtime.Sec)
	be.PutUint32(b[72:], a.Mtime.Nsec)
	be.PutUint32(b[76:], a.Ctime.Sec)
	be.PutUint32(b[80:], a.Ctime.Nsec)
}

// postAttr writes a post_op_attr.
func postAttr(w *xdr.Writer, a *PostAttr) {
	if !a.OK {
		w.Uint32(0)
		return
	}
	b := w.Extend(postSize)
	binary.BigEndian.PutUint32(b, 1)
	putAttr(b[4:], &a.Attr)
}

// wccData writes a wcc_data.
func wccData(w *xdr.Writer, d *Wcc) {
	w.Bool(d.Before.OK)
	if d.Before.OK {
		w.Uint64(d.Before.Size)
		putTime(w, d.Before.Mtime)
		putTime(w, d.Before.Ctime)
	}
	postAttr(w, &d.After)
}

func putTime(w *xdr.Writer, t Time) {
	w.Uint32(t.Sec)
	w.Uint32(t.Nsec)
}

// postHandle writes a post_op_fh3.
func postHandle(w *xdr.Writer, fh []byte) {
	w.Bool(len(fh) > 0)
	if len(fh) > 0 {
		w.Opaque(fh)
	}
}

// getAttr is GETATTR (section 3.3.1): object -> attributes.
func (c *call) getAttr() bool {
	fh := c.fh()
	if !c.r.OK() {
		return false
	}
	c.attr = Attr{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.GetAttr(&c.Call, fh, &c.attr)
	}
	c.status(st)
	if st == OK {
		putAttr(c.w.Extend(attrSize), &c.attr)
	}
	return true
}

// setAttr is SETATTR (section 3.3.2): object, new attributes, guard -> wcc.
func (c *call) setAttr() bool {
	fh := c.fh()
	c.sattr()
	var guard *Time
	if c.r.Bool() {
		c.guard = c.time()
		guard = &c.guard
	}
	if !c.r.OK() {
		return false
	}
	c.wcc = Wcc{}
	st := first(checkFH(fh), c.checkSet())
	if st == OK {
		st = c.fs.SetAttr(&c.Call, fh, &c.set, guard, &c.wcc)
		if st == ErrNotSync && c.attrsAreSet() {
			st = c.fs.Settle(&c.Call, fh)
		}
	}
	c.status(st)
	wccData(c.w, &c.wcc)
	return true
}

// access is ACCESS (section 3.3.4): object, wanted bits -> attributes, bits.
func (c *call) access() bool {
	fh, want := c.fh(), c.r.Uint32()
	if !c.r.OK() {
		return false
	}
	c.post = PostAttr{}
	st := checkFH(fh)
	var have uint32
	if st == OK {
		have, st = c.fs.Access(&c.Call, fh, want, &c.post)
	}
	c.status(st)
	postAttr(c.w, &c.post)
	if st == OK {
		c.w.Uint32(have & want)
	}
	return true
}
