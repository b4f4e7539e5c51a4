package nfs3

// A call that came before the server was killed, left no reply, and comes
// again may have been done already. Then a REMOVE finds nothing to remove, and
// its client would tell a program that the file was never there. So a call
// that fails, and may have been done (sunrpc.Call.Begun), is answered OK if
// its effect is there and did not come about before the call first began:
//
//	CREATE guarded, MKDIR, SYMLINK, MKNOD: EXIST, and the name is an object of
//	    the type (text, device) asked for, changed since
//	CREATE exclusive: EXIST, and the name is an empty file, changed since: it
//	    was made, and the verifier not yet stored
//	LINK: EXIST, and the name is the very object, changed since
//	REMOVE, RMDIR: NOENT, and the directory changed since
//	RENAME: NOENT, the directory changed since, and the new name is there
//	SETATTR guarded: NOT_SYNC, and the attributes are the ones asked for
//
// "Since" is what keeps mkdir a lock: a directory that somebody else made
// before is not taken for ours. All other failures stand.
//
// The try before may have ended anywhere: what it made is given its attributes
// again, and before the answer all that it did is brought to disk.

// slack is by how much the clock that the kernel stamps files with may be
// behind ours: a tick, generously.
const slack = 20e6 // nanoseconds

// farFuture is no time that anything changed at: somebody set it. Times before
// 1970 look like that, too, in nfstime3.
const farFuture = 365 * 24 * 3600 * 1e9 // nanoseconds

// since says whether t is not before the first try of this call; false when
// there was none.
func (c *call) since(t Time) bool {
	if c.rc.Begun == 0 {
		return false
	}
	age := int64(t.Sec)*1e9 + int64(t.Nsec) - c.rc.Begun
	return age >= -slack && age < farFuture
}

// again looks name up into c.made's handle and attributes.
func (c *call) again(dir []byte, name string) bool {
	if c.rc.Begun == 0 {
		return false
	}
	c.made.Handle, c.made.Attr, c.post2 = c.made.Handle[:0], PostAttr{}, PostAttr{}
	st := c.fs.Lookup(&c.Call, dir, name, &c.made.Handle, &c.made.Attr, &c.post2)
	return st == OK && c.made.Attr.OK
}

// isMade says whether name is an object of type t that was made since.
func (c *call) isMade(dir []byte, name string, t FileType) bool {
	return c.again(dir, name) && c.made.Attr.Type == t && c.since(c.made.Attr.Ctime)
}

// finish gives c.made, which a try before made, the attributes that it may not
// have come to, and brings it to disk.
func (c *call) finish() Status {
	set := c.set
	if c.UID != 0 { // only root gives away what he makes
		set.SetUID, set.SetGID = false, false
	}
	if c.made.Attr.Type != TypeReg {
		set.SetSize = false
	}
	c.wcc = Wcc{}
	st := c.fs.SetAttr(&c.Call, c.made.Handle, &set, nil, &c.wcc)
	if st == OK {
		c.made.Attr = c.wcc.After
	}
	return st
}

// linkSays says whether the text of a symbolic link is text.
func (c *call) linkSays(fh []byte, text string) bool {
	c.text, c.post = c.text[:0], PostAttr{}
	return c.fs.ReadLink(&c.Call, fh, &c.text, &c.post) == OK && string(c.text) == text
}

// isChanged says whether a directory changed since.
func (c *call) isChanged(dir []byte) bool {
	if c.rc.Begun == 0 {
		return false
	}
	c.attr = Attr{}
	return c.fs.GetAttr(&c.Call, dir, &c.attr) == OK && c.since(c.attr.Mtime)
}

// isRenamed says whether something was renamed to toName since.
func (c *call) isRenamed(from, to []byte, toName string) bool {
	return c.isChanged(from) && c.isChanged(to) && c.again(to, toName)
}

// isLinked says whether name was made a link to fh since.
func (c *call) isLinked(fh, dir []byte, name string) bool {
	if !c.again(dir, name) || !c.since(c.made.Attr.Ctime) {
		return false
	}
	c.attr = Attr{}
	if c.fs.GetAttr(&c.Call, fh, &c.attr) != OK || c.attr.FileID != c.made.Attr.FileID {
		return false
	}
	c.post = PostAttr{OK: true, Attr: c.attr}
	return true
}

// attrsAreSet says whether the object that SETATTR was not in time for has the
// attributes it was to be given, since. The wcc that SetAttr left tells.
func (c *call) attrsAreSet() bool {
	a, s := &c.wcc.After, &c.set
	return a.OK && c.since(a.Ctime) &&
		(!s.SetMode || a.Mode == s.Mode) &&
		(!s.SetUID || a.UID == s.UID) &&
		(!s.SetGID || a.GID == s.GID) &&
		(!s.SetSize || a.Size == s.Size) &&
		(s.SetAtime != SetToClient || a.Atime == s.Atime) &&
		(s.SetMtime != SetToClient || a.Mtime == s.Mtime)
}
