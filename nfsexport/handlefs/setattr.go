package handlefs

import (
	"math"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// SetAttr implements nfs3.FS.
func (fs *FS) SetAttr(c *nfs3.Call, fh []byte, s *nfs3.SetAttr, guard *nfs3.Time, w *nfs3.Wcc) nfs3.Status {
	o, st := fs.beginChange(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.lock(o.obj, o.obj)
	o.preNow(o.obj, &w.Before)
	o.alters()
	if guard != nil && (!w.Before.OK || *guard != w.Before.Ctime) {
		st = nfs3.ErrNotSync
	} else {
		st = o.change(o.obj, &o.st, *s)
	}
	o.postNow(o.obj, &w.After)
	o.unlock()
	return o.settle(st)
}

// change makes the changes of s, in the order of the kernel's server: the size
// first, then the rest.
func (o *op) change(obj *object, st *unix.Stat_t, s nfs3.SetAttr) nfs3.Status {
	if !o.fitsChange(obj, st, &s) {
		return nfs3.ErrNoSpc
	}
	sp, sts := o.spendSetAttr(obj, st, &s)
	if sts != nfs3.OK {
		return sts
	}
	defer sp.end(obj)
	o.copies(obj)
	if s.SetSize {
		if st := o.resize(obj, st, s.Size); st != nfs3.OK {
			return st
		}
	}
	if obj.typ == unix.S_IFLNK {
		s.SetMode = false // a symbolic link has none
	}
	if !obj.isDir() && s.SetMode && (s.SetUID || s.SetGID) {
		// A change of owner takes the set-id bits, also those of the same call.
		s.Mode &^= unix.S_ISUID
		if s.Mode&0o010 != 0 {
			s.Mode &^= unix.S_ISGID
		}
	}
	times, e := s.SetAtime != nfs3.KeepTime || s.SetMtime != nfs3.KeepTime, unix.Errno(0)
	touch := times && s.SetAtime != nfs3.SetToClient && s.SetMtime != nfs3.SetToClient
	if touch && !o.owns(st) && !o.may(obj, st, creds.Write) {
		return nfs3.ErrAcces
	}
	if s.SetMode || s.SetUID || s.SetGID || times && !touch {
		e = o.as(func() unix.Errno {
			if s.SetUID || s.SetGID {
				if e := chown(obj.fd, &s); e != 0 {
					return e
				}
			}
			if s.SetMode {
				if e := o.fs.proc.Chmod(obj.fd, s.Mode&0o7777); e != 0 {
					return e
				}
			}
			if times && !touch {
				return setTimes(obj.fd, &s)
			}
			return 0
		})
	}
	// Setting a time to now is for writers too. The kernel lets them only set
	// both at once, so it is done as root, who was asked for above.
	if e == 0 && touch {
		e = setTimes(obj.fd, &s)
	}
	return status(e)
}

// cutsAll says that s leaves nothing of a file's data, and that its golden copy may
// be opened with nothing of it: see resize.
func cutsAll(obj *object, st *unix.Stat_t, s *nfs3.SetAttr) bool {
	return s.SetSize && s.Size == 0 && obj.typ == unix.S_IFREG && obj.rw.Load() < 0 && st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0
}

// resize cuts or extends a file. The owner may always do that, as with Write.
// It is done as the caller so that others' set-id bits are cleared.
func (o *op) resize(obj *object, st *unix.Stat_t, size uint64) nfs3.Status {
	if s := wantFile(obj); s != nfs3.OK {
		return s
	}
	if !o.owns(st) && !o.may(obj, st, creds.Write) {
		return nfs3.ErrAcces
	}
	if size > math.MaxInt64 {
		return nfs3.ErrFBig
	}
	if cutsAll(obj, st, &nfs3.SetAttr{SetSize: true, Size: size}) {
		// The data of a golden file is not copied up only to be cut off.
		fd, e := o.fs.proc.Reopen(obj.fd, unix.O_WRONLY|unix.O_TRUNC)
		if e == 0 {
			unix.Close(fd)
		}
		return status(e)
	}
	fd, e := o.writer(obj)
	if e != 0 {
		return status(e)
	}
	truncate := func() unix.Errno { return rawfs.Errno(unix.Ftruncate(fd, int64(size))) }
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		e = o.as(truncate)
	} else {
		e = truncate()
	}
	return status(e)
}

func chown(fd int, s *nfs3.SetAttr) unix.Errno {
	uid, gid := rawfs.KeepID, rawfs.KeepID
	if s.SetUID {
		uid = s.UID
	}
	if s.SetGID {
		gid = s.GID
	}
	if s.SetUID && uid == rawfs.KeepID || s.SetGID && gid == rawfs.KeepID {
		return unix.EINVAL // no id: chown(2) would take it for "keep"
	}
	return rawfs.Chown(fd, uid, gid)
}

func setTimes(fd int, s *nfs3.SetAttr) unix.Errno {
	ts := [2]unix.Timespec{kernelTime(s.SetAtime, s.Atime), kernelTime(s.SetMtime, s.Mtime)}
	if ts[0].Nsec >= 1e9 && s.SetAtime == nfs3.SetToClient || ts[1].Nsec >= 1e9 && s.SetMtime == nfs3.SetToClient {
		return unix.EINVAL // else a client could spell UTIME_NOW
	}
	return rawfs.SetTimes(fd, &ts)
}

func kernelTime(how nfs3.SetTime, t nfs3.Time) unix.Timespec {
	switch how {
	case nfs3.SetToServer:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case nfs3.SetToClient:
		return unix.Timespec{Sec: int64(t.Sec), Nsec: int64(t.Nsec)}
	default:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
}
