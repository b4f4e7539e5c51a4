package nfs3

// read is READ (section 3.3.6): file, offset, count -> attributes, count, eof,
// data. The data is read into its place in the reply.
func (c *call) read() bool {
	fh, off, count := c.fh(), c.r.Uint64(), c.r.Uint32()
	if !c.r.OK() {
		return false
	}
	// As nfsd does: there is nothing to read beyond the largest offset, and
	// that is no error.
	n := int(min(count, MaxIO))
	off = min(off, maxSize)
	n = int(min(uint64(n), maxSize-off))

	c.post = PostAttr{}
	at := c.w.Len()
	// The results as they lie when attributes are given: status, attributes,
	// count, eof, length of data, data.
	const before = 4 + postSize + 4 + 4 + 4
	buf := c.w.Extend(before + n)[before:]
	var got int
	var eof bool
	st := checkFH(fh)
	c.spliced, c.toSplice = 0, n
	if st == OK {
		got, eof, st = c.fs.Read(&c.Call, fh, off, buf, &c.post)
	}
	c.toSplice = 0
	c.w.Truncate(at)
	c.status(st)
	postAttr(c.w, &c.post)
	if st != OK {
		c.rc.Unsplice()
		return true
	}
	if got = min(got, n); c.spliced > 0 {
		got = c.spliced
	}
	c.w.Uint32(uint32(got))
	c.w.Bool(eof)
	c.w.Uint32(uint32(got))
	if c.spliced > 0 {
		return true
	}
	if data := c.w.Extend(got); got > 0 && &data[0] != &buf[0] {
		copy(data, buf[:got]) // no attributes after all: the data moves up
	}
	c.w.Pad(got)
	return true
}

// write is WRITE (section 3.3.7): file, offset, count, stable_how, data -> wcc,
// count, committed, verifier.
func (c *call) write() bool {
	fh, off, count := c.fh(), c.r.Uint64(), c.r.Uint32()
	how := Stable(c.r.Uint32())
	data := c.r.Opaque(int(min(c.r.Len(), 1<<31-1)))
	if !c.r.OK() || how > FileSync || int64(len(data)) != int64(count) {
		return false
	}
	data = data[:min(len(data), MaxIO)]
	c.wcc = Wcc{}
	var done Stable
	var verf uint64
	n, st := 0, checkFH(fh)
	if st == OK && (off > maxSize || uint64(len(data)) > maxSize-off) {
		st = ErrFBig
	}
	if st == OK {
		// Taken before the data: if data written here is lost before the reply
		// is sent, the client sees the old verifier now and another at COMMIT.
		verf = c.fs.WriteVerifier(fh)
		n, done, st = c.fs.Write(&c.Call, fh, off, data, how, &c.wcc)
	}
	c.status(st)
	wccData(c.w, &c.wcc)
	if st == OK {
		c.w.Uint32(uint32(n))
		c.w.Uint32(uint32(done))
		c.w.Uint64(verf)
	}
	return true
}

// commit is COMMIT (section 3.3.21): file, offset, count -> wcc, verifier.
func (c *call) commit() bool {
	fh, off, count := c.fh(), c.r.Uint64(), c.r.Uint32()
	if !c.r.OK() {
		return false
	}
	// A range that no file can have is taken for the whole file, as nfsd does.
	if off > maxSize || uint64(count) > maxSize-off {
		off, count = 0, 0
	}
	c.wcc = Wcc{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.Commit(&c.Call, fh, off, count, &c.wcc)
	}
	c.status(st)
	wccData(c.w, &c.wcc)
	if st == OK {
		// Taken after the data is on disk: whatever was lost before shows.
		c.w.Uint64(c.fs.WriteVerifier(fh))
	}
	return true
}
