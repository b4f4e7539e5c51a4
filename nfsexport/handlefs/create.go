package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// making is what the calls that make an object share: the directory is checked
// and locked, its attributes are taken before and after, the new object's
// handle and attributes are filled in and all of it is brought to disk.
func (fs *FS) making(c *nfs3.Call, dir []byte, name string, n *nfs3.New, f func(o *op) nfs3.Status) nfs3.Status {
	o, st := fs.beginChange(c, dir)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.lock(o.obj, o.obj)
	o.preNow(o.obj, &n.Dir.Before)
	o.alters()
	switch {
	case !o.obj.isDir():
		st = nfs3.ErrNotDir
	case isDots(name):
		st = nfs3.ErrExist
	default:
		if st = o.setName(&o.name, name); st == nfs3.OK {
			st = f(o)
		}
	}
	o.postNow(o.obj, &n.Dir.After)
	o.unlock()
	return o.settle(st)
}

// made finishes a new object: what could not be given when it was made is set,
// and its handle is told. Only root may give it away, as with the kernel's server.
func (o *op) made(obj *object, kid *unix.Stat_t, s *nfs3.SetAttr, n *nfs3.New) nfs3.Status {
	defer o.fs.cache.release(obj)
	st := nfs3.OK
	if s != nil {
		rest := *s
		rest.SetMode = false
		if o.c.UID != 0 {
			rest.SetUID, rest.SetGID = false, false
		}
		if obj.typ != unix.S_IFREG {
			rest.SetSize = false
		}
		if rest.SetSize && rest.Size == 0 {
			rest.SetSize = kid.Size != 0
		}
		st = o.change(obj, kid, rest)
	}
	n.Handle = append(n.Handle, obj.handle()...)
	o.postNow(obj, &n.Attr)
	return st
}

// modeOf is the mode a new object is made with; without one it is 0.
func modeOf(s *nfs3.SetAttr) uint32 {
	if s == nil || !s.SetMode {
		return 0
	}
	return s.Mode & 0o7777
}

// unmask gives a new object the permission bits that this process's umask took.
// A default ACL may have taken them rightly: then they stay away.
func (o *op) unmask(fd int, kid *unix.Stat_t, mode uint32) unix.Errno {
	mode &= 0o777
	if kid.Mode&0o777 == mode || kid.Mode&0o777&^mode != 0 || o.fs.proc.HasXattr(o.obj.fd, "system.posix_acl_default") {
		return 0
	}
	return o.fs.proc.Chmod(fd, kid.Mode&0o7777|mode)
}

// Create implements nfs3.FS. An exclusive create keeps its verifier in the new
// file's times, as the kernel's server does; the client sets them after it.
func (fs *FS) Create(c *nfs3.Call, dir []byte, name string, mode nfs3.CreateMode, s *nfs3.SetAttr, verf uint64, n *nfs3.New) nfs3.Status {
	return fs.making(c, dir, name, n, func(o *op) nfs3.Status {
		sp, st := o.spendMaking()
		if st != nfs3.OK {
			if mode == nfs3.Unchecked { // an existing file may still be cut off
				var st unix.Stat_t
				if rawfs.StatAt(o.obj.fd, &o.name, &st) == 0 {
					return o.existing(mode, s, verf, n)
				}
			}
			return st
		}
		defer sp.end(o.obj)
		fd := -1
		e := o.as(func() (e unix.Errno) {
			fd, e = rawfs.Open(o.obj.fd, &o.name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, modeOf(s))
			return e
		})
		if e == unix.EEXIST {
			return o.existing(mode, s, verf, n)
		}
		if e != 0 {
			return status(e)
		}
		var kid unix.Stat_t
		if e := rawfs.Stat(fd, &kid); e != 0 {
			unix.Close(fd)
			return status(e)
		}
		if e = o.unmask(fd, &kid, modeOf(s)); e == 0 && mode == nfs3.Exclusive {
			v := verifierTimes(verf)
			e = setTimes(fd, &v)
		}
		if e != 0 {
			unix.Close(fd)
			return status(e)
		}
		obj, st := o.take(fd, &kid, true)
		if st != nfs3.OK {
			return st
		}
		sp.made(obj, &kid)
		return o.made(obj, &kid, s, n)
	})
}

// existing answers a create whose name is taken.
func (o *op) existing(mode nfs3.CreateMode, s *nfs3.SetAttr, verf uint64, n *nfs3.New) nfs3.Status {
	if mode == nfs3.Guarded || !o.may(o.obj, &o.st, creds.Exec) {
		return nfs3.ErrExist
	}
	var kid unix.Stat_t
	obj, st := o.child(o.obj, &kid)
	if st != nfs3.OK {
		return st
	}
	if mode == nfs3.Unchecked {
		var size *nfs3.SetAttr
		if s != nil && s.SetSize && obj.typ == unix.S_IFREG {
			size = &nfs3.SetAttr{SetSize: true, Size: s.Size}
		}
		return o.made(obj, &kid, size, n)
	}
	v := verifierTimes(verf)
	if obj.typ == unix.S_IFREG && kid.Size == 0 && kid.Atim.Sec == int64(v.Atime.Sec) && kid.Mtim.Sec == int64(v.Mtime.Sec) {
		return o.made(obj, &kid, nil, n) // a retransmission: this call's own file
	}
	o.fs.cache.release(obj)
	return nfs3.ErrExist
}

// verifierTimes keeps 31 bits of each half, which every file system can hold.
func verifierTimes(verf uint64) nfs3.SetAttr {
	return nfs3.SetAttr{
		SetAtime: nfs3.SetToClient, Atime: nfs3.Time{Sec: uint32(verf) & 0x7fffffff},
		SetMtime: nfs3.SetToClient, Mtime: nfs3.Time{Sec: uint32(verf>>32) & 0x7fffffff},
	}
}

// make runs f, which makes o.name in o.obj, as the caller, and finishes the object.
func (o *op) make(s *nfs3.SetAttr, mode uint32, n *nfs3.New, f func() unix.Errno) nfs3.Status {
	sp, st := o.spendMaking()
	if st != nfs3.OK {
		return st
	}
	defer sp.end(o.obj)
	if e := o.as(f); e != 0 {
		return status(e)
	}
	var kid unix.Stat_t
	obj, st := o.child(o.obj, &kid)
	if st != nfs3.OK {
		return st
	}
	sp.made(obj, &kid)
	if obj.typ != unix.S_IFLNK {
		if e := o.unmask(obj.fd, &kid, mode); e != 0 {
			o.fs.cache.release(obj)
			return status(e)
		}
	}
	return o.made(obj, &kid, s, n)
}

// Mkdir implements nfs3.FS.
func (fs *FS) Mkdir(c *nfs3.Call, dir []byte, name string, s *nfs3.SetAttr, n *nfs3.New) nfs3.Status {
	return fs.making(c, dir, name, n, func(o *op) nfs3.Status {
		return o.make(s, modeOf(s), n, func() unix.Errno {
			return rawfs.Mkdir(o.obj.fd, &o.name, modeOf(s))
		})
	})
}

// Symlink implements nfs3.FS.
func (fs *FS) Symlink(c *nfs3.Call, dir []byte, name, text string, s *nfs3.SetAttr, n *nfs3.New) nfs3.Status {
	return fs.making(c, dir, name, n, func(o *op) nfs3.Status {
		target, err := unix.BytePtrFromString(text)
		if err != nil {
			return nfs3.ErrInval // a NUL in it
		}
		return o.make(s, 0, n, func() unix.Errno {
			return rawfs.Symlink(target, o.obj.fd, &o.name)
		})
	})
}

// Mknod implements nfs3.FS. Device nodes are root's; the export is mounted
// nodev, so here they are names and numbers only.
func (fs *FS) Mknod(c *nfs3.Call, dir []byte, name string, t nfs3.FileType, major, minor uint32, s *nfs3.SetAttr, n *nfs3.New) nfs3.Status {
	mode, dev := modeOf(s), uint64(0)
	switch t {
	case nfs3.TypeChar, nfs3.TypeBlock:
		mode |= unix.S_IFCHR
		if t == nfs3.TypeBlock {
			mode = mode&^unix.S_IFMT | unix.S_IFBLK
		}
		if major >= 1<<12 || minor >= 1<<20 { // what the kernel's dev_t holds
			return nfs3.ErrInval
		}
		dev = unix.Mkdev(major, minor)
	case nfs3.TypeSocket:
		mode |= unix.S_IFSOCK
	case nfs3.TypeFifo:
		mode |= unix.S_IFIFO
	default:
		return nfs3.ErrBadType
	}
	return fs.making(c, dir, name, n, func(o *op) nfs3.Status {
		return o.make(s, mode, n, func() unix.Errno {
			return rawfs.Mknod(o.obj.fd, &o.name, mode, dev)
		})
	})
}
