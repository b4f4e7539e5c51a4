package nfs3

// beforeData is what a successful READ's results have before the data: status,
// attributes, count, eof, length of the data.
const beforeData = 4 + postSize + 4 + 4 + 4

// readArgs reads the arguments of a READ, and gives what is to be read of them. As nfsd
// does: there is nothing to read beyond the largest offset, and that is no error.
func (c *call) readArgs() (fh []byte, off uint64, n int) {
	fh, off, n = c.fh(), c.r.Uint64(), int(min(c.r.Uint32(), MaxIO))
	off = min(off, maxSize)
	return fh, off, int(min(uint64(n), maxSize-off))
}

// read is READ (section 3.3.6): file, offset, count -> attributes, count, eof,
// data. The data is read into its place in the reply.
func (c *call) read() bool {
	fh, off, n := c.readArgs()
	if !c.r.OK() {
		return false
	}
	c.post = PostAttr{}
	at := c.w.Len()
	buf := c.w.Extend(beforeData + n)[beforeData:]
	var got int
	var eof bool
	st := checkFH(fh)
	c.spliced, c.toSplice = 0, n
	if st == OK {
		got, eof, st = c.fs.Read(&c.Call, fh, off, buf, &c.post)
	}
	c.toSplice = 0
	c.w.Truncate(at)
	c.putRead(st, buf, got, eof)
	return true
}

// putRead writes the results of a READ that got bytes of buf, which lies behind
// where they belong, or there.
func (c *call) putRead(st Status, buf []byte, got int, eof bool) Status {
	c.status(st)
	postAttr(c.w, &c.post)
	if st != OK {
		c.rc.Unsplice()
		return st
	}
	if got = min(got, len(buf)); c.spliced > 0 {
		got = c.spliced
	}
	c.w.Uint32(uint32(got))
	c.w.Bool(eof)
	c.w.Uint32(uint32(got))
	if c.spliced > 0 {
		return st
	}
	if data := c.w.Extend(got); got > 0 && &data[0] != &buf[0] {
		copy(data, buf[:got]) // no attributes after all: the data moves up
	}
	c.w.Pad(got)
	return st
}

// writeArgs reads the arguments of a WRITE.
func (c *call) writeArgs() (fh []byte, off uint64, data []byte, how Stable, ok bool) {
	fh, off = c.fh(), c.r.Uint64()
	count := c.r.Uint32()
	how = Stable(c.r.Uint32())
	if c.Poured = c.rc.More(); c.Poured > 0 { // Plan has seen the length
		n := c.r.Uint32()
		ok = c.r.OK() && how <= FileSync && n == count && int64(n) == int64(c.Poured)
		return fh, off, nil, how, ok
	}
	data = c.r.Opaque(int(min(c.r.Len(), 1<<31-1)))
	ok = c.r.OK() && how <= FileSync && int64(len(data)) == int64(count)
	return fh, off, data[:min(len(data), MaxIO)], how, ok
}

// tooFar says whether no file can have data there.
func tooFar(off uint64, n int) bool { return off > maxSize || uint64(n) > maxSize-off }

// write is WRITE (section 3.3.7): file, offset, count, stable_how, data -> wcc,
// count, committed, verifier.
func (c *call) write() bool {
	fh, off, data, how, ok := c.writeArgs()
	if !ok {
		return false
	}
	c.wcc = Wcc{}
	var done Stable
	var verf uint64
	n, st := 0, checkFH(fh)
	if st == OK && tooFar(off, len(data)+c.Poured) {
		st = ErrFBig
	}
	if st == OK {
		// Taken before the data: if data written here is lost before the reply
		// is sent, the client sees the old verifier now and another at COMMIT.
		verf = c.fs.WriteVerifier(fh)
		n, done, st = c.fs.Write(&c.Call, fh, off, data, how, &c.wcc)
	}
	c.putWrite(st, n, done, verf)
	return true
}

// putWrite writes the results of a WRITE.
func (c *call) putWrite(st Status, n int, done Stable, verf uint64) Status {
	c.status(st)
	wccData(c.w, &c.wcc)
	if st == OK {
		c.w.Uint32(uint32(n))
		c.w.Uint32(uint32(done))
		c.w.Uint64(verf)
	}
	return st
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
