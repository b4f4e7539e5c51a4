package nfs3

// The figures of FSINFO (section 3.3.19).
const (
	ioMultiple = 4096
	// dirPref is what clients ask READDIR for.
	dirPref = maxDirReply

	propLink        = 0x01 // FSF3_LINK: hard links
	propSymlink     = 0x02 // FSF3_SYMLINK
	propHomogeneous = 0x08 // FSF3_HOMOGENEOUS: PATHCONF is the same everywhere
	propCanSetTime  = 0x10 // FSF3_CANSETTIME: times to time_delta
)

// fsStat is FSSTAT (section 3.3.18): any object -> attributes, sizes.
func (c *call) fsStat() bool {
	fh := c.fh()
	if !c.r.OK() {
		return false
	}
	c.stat, c.post = FSStat{}, PostAttr{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.FSStat(&c.Call, fh, &c.stat, &c.post)
	}
	c.status(st)
	postAttr(c.w, &c.post)
	if st == OK {
		c.w.Uint64(c.stat.Tbytes)
		c.w.Uint64(c.stat.Fbytes)
		c.w.Uint64(c.stat.Abytes)
		c.w.Uint64(c.stat.Tfiles)
		c.w.Uint64(c.stat.Ffiles)
		c.w.Uint64(c.stat.Afiles)
		c.w.Uint32(0) // invarsec: the figures may change at any moment
	}
	return true
}

// fsInfo is FSINFO (section 3.3.19): root -> attributes, what the server can.
func (c *call) fsInfo() bool {
	fh := c.fh()
	if !c.r.OK() {
		return false
	}
	c.post = PostAttr{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.FSInfo(&c.Call, fh, &c.post)
	}
	c.status(st)
	postAttr(c.w, &c.post)
	if st == OK {
		c.w.Uint32(MaxIO) // rtmax
		c.w.Uint32(MaxIO) // rtpref
		c.w.Uint32(ioMultiple)
		c.w.Uint32(MaxIO) // wtmax
		c.w.Uint32(MaxIO) // wtpref
		c.w.Uint32(ioMultiple)
		c.w.Uint32(dirPref)
		c.w.Uint64(maxSize)
		c.w.Uint32(0) // time_delta: one nanosecond
		c.w.Uint32(1)
		c.w.Uint32(propLink | propSymlink | propHomogeneous | propCanSetTime)
	}
	return true
}

// pathConf is PATHCONF (section 3.3.20): any object -> attributes, limits.
func (c *call) pathConf() bool {
	fh := c.fh()
	if !c.r.OK() {
		return false
	}
	c.conf, c.post = PathConf{}, PostAttr{}
	st := checkFH(fh)
	if st == OK {
		st = c.fs.PathConf(&c.Call, fh, &c.conf, &c.post)
	}
	c.status(st)
	postAttr(c.w, &c.post)
	if st == OK {
		c.w.Uint32(c.conf.LinkMax)
		c.w.Uint32(c.conf.NameMax)
		c.w.Bool(c.conf.NoTrunc)
		c.w.Bool(c.conf.ChownRestricted)
		c.w.Bool(c.conf.CaseFold)
		c.w.Bool(c.conf.CasePreserve)
	}
	return true
}
