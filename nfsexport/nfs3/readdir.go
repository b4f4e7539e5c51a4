package nfs3

import "rubus/nfsexport/xdr"

// dirReply is a directory listing being written.
type dirReply struct {
	plus  bool
	room  int // bytes left of the results
	names int // bytes left of names, fileids and cookies (READDIRPLUS)
	n     int // entries written
	full  bool
}

// dirFixed is what a listing takes besides its entries: attributes of the
// directory, verifier, end of the list, eof.
const dirFixed = postSize + 8 + 4 + 4

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
		plus: plus,
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
		eof, st = c.fs.ReadDir(&c.Call, fh, cookie, &verf, plus, (*entries)(c), &c.post)
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

// entries writes the entries of a call's reply.
type entries call

// Add implements Entries.
func (c *entries) Add(e *Entry) bool {
	d := &c.dir
	names := nameSize(e.Name)
	size := entryFixed + xdr.Size(len(e.Name))
	if d.plus {
		size += 4 + 4
		if e.Attr.OK {
			size += attrSize
		}
		if len(e.Handle) > 0 {
			size += xdr.Size(len(e.Handle))
		}
	}
	if d.full || !d.fits(1, size, names) {
		d.full = true
		return false
	}
	d.take(1, size, names)
	putEntry(c.w, e, d.plus)
	return true
}

// AddRun implements Entries.
func (c *entries) AddRun(r *Run, i int) (n int) {
	d := &c.dir
	if d.full || i == r.Len() {
		return 0
	}
	from := r.from(i)
	for n = r.Len() - i; n > 0; n-- {
		to := r.ends[i+n-1]
		size, names := int(to.wire-from.wire), int(to.names-from.names)
		if d.fits(n, size, names) {
			d.take(n, size, names)
			c.w.Buf = append(c.w.Buf, r.wire[from.wire:to.wire]...)
			break
		}
		d.full = true
	}
	return n
}

// fits says whether there is room for n more entries. dircount is a wish about work,
// not about room: one entry is always given.
func (d *dirReply) fits(n, size, names int) bool {
	return size <= d.room && (!d.plus || names <= d.names || d.n == 0 && n == 1)
}

func (d *dirReply) take(n, size, names int) {
	d.room -= size
	d.names -= names
	d.n += n
}
