package nfs3

// lookup is LOOKUP (section 3.3.3): directory, name -> handle, attributes of
// the object and of the directory.
func (c *call) lookup() bool {
	dir, name := c.fh(), c.name()
	if !c.r.OK() {
		return false
	}
	c.handle, c.post, c.post2 = c.handle[:0], PostAttr{}, PostAttr{}
	st := first(checkFH(dir), checkName(name))
	if st == OK {
		st = c.fs.Lookup(&c.Call, dir, name, &c.handle, &c.post, &c.post2)
	}
	c.status(st)
	if st == OK {
		c.w.Opaque(c.handle)
		postAttr(c.w, &c.post)
	}
	postAttr(c.w, &c.post2)
	return true
}

// readLink is READLINK (section 3.3.5): symbolic link -> attributes, text.
func (c *call) readLink() bool {
	fh := c.fh()
	if !c.r.OK() {
		return false
	}
	c.text, c.post = c.text[:0], PostAttr{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.ReadLink(&c.Call, fh, &c.text, &c.post)
	}
	c.status(st)
	postAttr(c.w, &c.post)
	if st == OK {
		c.w.Opaque(c.text)
	}
	return true
}
