package nfs3

import "rubus/nfsexport/xdr"

// dirReply is a directory listing being written.
type dirReply struct {
	add   func(*Entry) bool // addEntry, bound once
	plus  bool
	room  int // bytes left of the results
	names int // bytes left of names, fileids and cookies (READDIRPLUS)
	n     int // entries written
	full  bool
}

const (
	// dirFixed is what a listing takes besides its entries: attributes of the
	// directory, verifier, end of the list, eof.
	dirFixed = postSize + 8 + 4 + 4
	// entryFixed is what an entry takes besides its name: that it follows,
	// fileid, cookie.
	entryFixed = 4 + 8 + 8
)

// readDir is READDIR (section 3.3.16): directory, cookie, verifier, count ->
// attributes, verifier, entries, eof; and READDIRPLUS (section 3.3.17), which
// has dircount and maxcount and gives attributes and handles. Sizes are those
// of the results after the status word, with all that XDR adds.
func (c *call) readDir(plus bool) bool {
	fh, cookie, verf := c.fh(), c.r.Uint64(), c.r.Uint64()
	count := c.r.Uint32()
	names := count
	if plus {
		count = c.r.Uint32()
	}
	if !c.r.OK() {
		return false
	}
	c.post = PostAttr{}
	c.dir = dirReply{
		add: c.dir.add, plus: plus,
		room: int(min(count, maxDirReply)) - dirFixed, names: int(min(names, maxDirReply)),
	}
	at := c.w.Len()
	// The attributes come first and are known last: they get their place now.
	const before = 4 + postSize + 8
	c.w.Extend(before)
	st := checkFH(fh)
	if st == OK && c.dir.room < 0 {
		st = ErrTooSmall
	}
	eof := false
	if st == OK {
		eof, st = c.fs.ReadDir(&c.Call, fh, cookie, &verf, plus, c.dir.add, &c.post)
	}
	if st == OK && c.dir.full {
		eof = false
		if c.dir.n == 0 {
			st = ErrTooSmall
		}
	}
	end := c.w.Len()
	c.w.Truncate(at)
	c.status(st)
	postAttr(c.w, &c.post)
	if st != OK {
		return true
	}
	c.w.Uint64(verf)
	entries := c.w.Buf[at+before : end]
	if here := c.w.Len(); here == at+before {
		c.w.Buf = c.w.Buf[:end]
	} else {
		c.w.Buf = append(c.w.Buf, entries...) // no attributes: they move up
	}
	c.w.Uint32(0) // no entry follows
	c.w.Bool(eof)
	return true
}

// addEntry writes an entry, or gives false when there is no room for it.
func (c *call) addEntry(e *Entry) bool {
	d := &c.dir
	name := xdr.Size(len(e.Name))
	size := entryFixed + name
	if d.plus {
		size += 4 + 4
		if e.Attr.OK {
			size += attrSize
		}
		if len(e.Handle) > 0 {
			size += xdr.Size(len(e.Handle))
		}
	}
	// dircount is a wish about work, not about room: one entry is always given.
	if d.full || size > d.room || d.plus && d.n > 0 && 8+name+8 > d.names {
		d.full = true
		return false
	}
	d.room -= size
	d.names -= 8 + name + 8
	d.n++
	c.w.Uint32(1)
	c.w.Uint64(e.FileID)
	c.w.String(e.Name)
	c.w.Uint64(e.Cookie)
	if d.plus {
		postAttr(c.w, &e.Attr)
		postHandle(c.w, e.Handle)
	}
	return true
}
