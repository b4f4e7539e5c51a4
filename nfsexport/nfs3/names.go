package nfs3

// remove is REMOVE (section 3.3.12) and RMDIR (section 3.3.13): directory, name
// -> wcc of the directory.
func (c *call) remove(dirs bool) bool {
	dir, name := c.fh(), c.name()
	if !c.r.OK() {
		return false
	}
	c.wcc = Wcc{}
	st := first(checkFH(dir), checkName(name))
	switch {
	case st != OK:
	case isDot(name):
		st = ErrAcces // as nfsd
	case dirs:
		st = c.fs.Rmdir(&c.Call, dir, name, &c.wcc)
	default:
		st = c.fs.Remove(&c.Call, dir, name, &c.wcc)
	}
	if st == ErrNoEnt && c.isChanged(dir) {
		st = c.fs.Settle(&c.Call, dir)
	}
	c.status(st)
	wccData(c.w, &c.wcc)
	return true
}

// rename is RENAME (section 3.3.14): from, to -> wcc of both directories.
func (c *call) rename() bool {
	from, fromName := c.fh(), c.name()
	to, toName := c.fh(), c.name()
	if !c.r.OK() {
		return false
	}
	c.wcc, c.wcc2 = Wcc{}, Wcc{}
	st := first(checkFH(from), checkFH(to), checkName(fromName), checkName(toName))
	switch {
	case st != OK:
	case isDot(fromName) || isDot(toName):
		st = ErrPerm // as nfsd
	default:
		st = c.fs.Rename(&c.Call, from, fromName, to, toName, &c.wcc, &c.wcc2)
	}
	if st == ErrNoEnt && c.isRenamed(from, to, toName) {
		st = c.fs.Settle(&c.Call, to)
	}
	c.status(st)
	wccData(c.w, &c.wcc)
	wccData(c.w, &c.wcc2)
	return true
}

// link is LINK (section 3.3.15): object, directory, name -> attributes of the
// object, wcc of the directory.
func (c *call) link() bool {
	fh, dir, name := c.fh(), c.fh(), c.name()
	if !c.r.OK() {
		return false
	}
	c.post, c.wcc = PostAttr{}, Wcc{}
	st := first(checkFH(fh), checkFH(dir), newName(name))
	if st == OK {
		st = c.fs.Link(&c.Call, fh, dir, name, &c.post, &c.wcc)
		if st == ErrExist && c.isLinked(fh, dir, name) {
			st = c.fs.Settle(&c.Call, dir)
		}
	}
	c.status(st)
	postAttr(c.w, &c.post)
	wccData(c.w, &c.wcc)
	return true
}
