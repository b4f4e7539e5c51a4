package nfs3

// create is CREATE (section 3.3.8): directory, name, how -> handle,
// attributes, wcc of the directory.
func (c *call) create() bool {
	dir, name := c.fh(), c.name()
	mode := CreateMode(c.r.Uint32())
	var set *SetAttr
	var verf uint64
	check := OK
	switch mode {
	case Unchecked, Guarded:
		c.sattr()
		set, check = &c.set, c.checkSet()
	case Exclusive:
		c.set = SetAttr{}
		verf = c.r.Uint64()
	default:
		return false
	}
	if !c.r.OK() {
		return false
	}
	st := first(checkFH(dir), newName(name), check)
	c.resetMade()
	if st == OK {
		st = c.fs.Create(&c.Call, dir, name, mode, set, verf, &c.made)
		if st == ErrExist && c.isMade(dir, name, TypeReg) && (mode == Guarded || c.made.Attr.Size == 0) {
			st = c.finish()
		}
	}
	return c.newObject(st)
}

// mkdir is MKDIR (section 3.3.9): directory, name, attributes -> as CREATE.
func (c *call) mkdir() bool {
	dir, name := c.fh(), c.name()
	c.sattr()
	if !c.r.OK() {
		return false
	}
	st := first(checkFH(dir), newName(name), c.checkSet())
	c.resetMade()
	if st == OK {
		st = c.fs.Mkdir(&c.Call, dir, name, &c.set, &c.made)
		if st == ErrExist && c.isMade(dir, name, TypeDir) {
			st = c.finish()
		}
	}
	return c.newObject(st)
}

// symlink is SYMLINK (section 3.3.10): directory, name, attributes, text -> as
// CREATE.
func (c *call) symlink() bool {
	dir, name := c.fh(), c.name()
	c.sattr()
	text := c.name()
	if !c.r.OK() {
		return false
	}
	st := first(checkFH(dir), newName(name), checkText(text), c.checkSet())
	c.resetMade()
	if st == OK {
		st = c.fs.Symlink(&c.Call, dir, name, text, &c.set, &c.made)
		if st == ErrExist && c.isMade(dir, name, TypeLink) && c.linkSays(c.made.Handle, text) {
			st = c.finish()
		}
	}
	return c.newObject(st)
}

// checkText says whether a text can be that of a symbolic link; the kernel
// says ENOENT to an empty one.
func checkText(text string) Status {
	switch {
	case len(text) >= MaxPath:
		return ErrNameTooLong
	case text == "":
		return ErrNoEnt
	}
	for i := range len(text) {
		if text[i] == 0 {
			return ErrInval
		}
	}
	return OK
}

// mknod is MKNOD (section 3.3.11): directory, name, what -> as CREATE.
func (c *call) mknod() bool {
	dir, name := c.fh(), c.name()
	t := FileType(c.r.Uint32())
	var major, minor uint32
	check := OK
	c.set = SetAttr{}
	switch t {
	case TypeBlock, TypeChar:
		c.sattr()
		major, minor = c.r.Uint32(), c.r.Uint32()
	case TypeSocket, TypeFifo:
		c.sattr()
	case TypeReg, TypeDir, TypeLink: // void in the protocol, and not made so
		check = ErrBadType
	default:
		return false
	}
	if !c.r.OK() {
		return false
	}
	st := first(checkFH(dir), newName(name), check, c.checkSet())
	c.resetMade()
	if st == OK {
		st = c.fs.Mknod(&c.Call, dir, name, t, major, minor, &c.set, &c.made)
		if st == ErrExist && c.isMade(dir, name, t) &&
			c.made.Attr.Major == major && c.made.Attr.Minor == minor {
			st = c.finish()
		}
	}
	return c.newObject(st)
}

// resetMade zeroes c.made; its handle keeps its room.
func (c *call) resetMade() { c.made = New{Handle: c.made.Handle[:0]} }

// newObject writes the results that CREATE, MKDIR, SYMLINK and MKNOD share.
func (c *call) newObject(st Status) bool {
	c.status(st)
	if st == OK {
		postHandle(c.w, c.made.Handle)
		postAttr(c.w, &c.made.Attr)
	}
	wccData(c.w, &c.made.Dir)
	return true
}
