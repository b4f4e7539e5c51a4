package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/spending"
	"rubus/nfsexport/nfs3"
)

// Remove implements nfs3.FS.
func (fs *FS) Remove(c *nfs3.Call, dir []byte, name string, w *nfs3.Wcc) nfs3.Status {
	return fs.unlink(c, dir, name, 0, w)
}

// Rmdir implements nfs3.FS.
func (fs *FS) Rmdir(c *nfs3.Call, dir []byte, name string, w *nfs3.Wcc) nfs3.Status {
	return fs.unlink(c, dir, name, unix.AT_REMOVEDIR, w)
}

func (fs *FS) unlink(c *nfs3.Call, dir []byte, name string, flags int, w *nfs3.Wcc) nfs3.Status {
	o, st := fs.beginChange(c, dir)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.lock(o.obj, o.obj)
	o.preNow(o.obj, &w.Before)
	o.alters()
	switch {
	case !o.obj.isDir():
		st = nfs3.ErrNotDir
	case isDots(name):
		st = nfs3.ErrAcces
	default:
		if st = o.setName(&o.name, name); st == nfs3.OK {
			st = status(o.unlinkName(flags))
		}
	}
	o.postNow(o.obj, &w.After)
	o.unlock()
	return o.settle(st)
}

// unlinkName removes o.name and lets go of our descriptors of what it named,
// else they would keep its space. The link count is not asked: an overlay may
// show one that is too high.
func (o *op) unlinkName(flags int) unix.Errno {
	old := o.entry(o.obj, &o.name)
	defer old.release()
	known := o.keyOf(o.obj, &o.name) == 0
	sp := o.watch(o.obj)
	defer sp.end(o.obj)
	unlink := func() unix.Errno {
		return rawfs.Unlink(o.obj.fd, &o.name, flags)
	}
	e := o.as(unlink)
	if e == unix.EDQUOT || e == unix.ENOSPC {
		// To take away a golden name the directory is copied up. That works always.
		o.exp.Quota.Relieve(func() { e = o.as(unlink) })
	}
	if e == 0 && known {
		old.removed()
		o.fs.cache.lost(&o.k, o.exp.root)
	}
	return e
}

// Rename implements nfs3.FS.
func (fs *FS) Rename(c *nfs3.Call, from []byte, fromName string, to []byte, toName string, wFrom, wTo *nfs3.Wcc) nfs3.Status {
	o, st := fs.beginChange(c, from)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	var dst *object
	var dstStat unix.Stat_t
	if st := o.another(to, &dst, &dstStat); st != nfs3.OK {
		o.post(&o.st, &wFrom.After)
		return st
	}
	defer fs.cache.release(dst)
	o.lock(o.obj, dst)
	o.preNow(o.obj, &wFrom.Before)
	o.preNow(dst, &wTo.Before)
	o.alters()
	var target rawfs.Name
	switch {
	case !o.obj.isDir() || !dst.isDir():
		st = nfs3.ErrNotDir
	case isDots(fromName) || isDots(toName):
		st = nfs3.ErrPerm
	default:
		if st = o.setName(&o.name, fromName); st == nfs3.OK {
			if st = o.setName(&target, toName); st == nfs3.OK {
				st = o.rename(dst, &dstStat, &target)
			}
		}
	}
	o.postNow(o.obj, &wFrom.After)
	o.postNow(dst, &wTo.After)
	o.unlock()
	return o.settle(st)
}

func (o *op) rename(dst *object, dstStat *unix.Stat_t, target *rawfs.Name) nfs3.Status {
	if !o.fitsRename() {
		return nfs3.ErrNoSpc
	}
	moved, old := o.entry(o.obj, &o.name), o.entry(dst, target)
	defer moved.release()
	defer old.release()
	// What the target named loses that name, unless both are one file: then
	// nothing happens (rename(2)), and dropping it costs a little only.
	known := o.keyOf(dst, target) == 0
	sp, st := moved.spend()
	if st != nfs3.OK {
		return st
	}
	defer sp.end(moved.obj)
	from, to := o.watch(o.obj), o.watch(dst)
	defer from.end(o.obj)
	defer to.end(dst)
	o.waits() // a golden file is copied up
	if o.may(o.obj, &o.st, creds.Write|creds.Exec) && o.may(dst, dstStat, creds.Write|creds.Exec) {
		if e := o.connect(o.obj.fd, &o.name); e != 0 {
			return status(e)
		}
	}
	e := o.as(func() unix.Errno {
		return rawfs.Rename(o.obj.fd, &o.name, dst.fd, target)
	})
	if e != 0 {
		return status(e)
	}
	if old.obj != moved.obj {
		old.removed()
	}
	if known {
		o.fs.cache.lost(&o.k, o.exp.root)
	}
	return nfs3.OK
}

// Link implements nfs3.FS. The caller needs to be allowed to write to the
// directory. The link itself is made as root: whether linking to others' files
// is allowed (fs.protected_hardlinks) is for the client's kernel to say, and this
// host's setting must not speak for it.
func (fs *FS) Link(c *nfs3.Call, fh, dir []byte, name string, a *nfs3.PostAttr, w *nfs3.Wcc) nfs3.Status {
	o, st := fs.beginChange(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	var dst *object
	var dstStat unix.Stat_t
	if st := o.another(dir, &dst, &dstStat); st != nfs3.OK {
		o.post(&o.st, a)
		return st
	}
	defer fs.cache.release(dst)
	o.lock(dst, dst)
	o.preNow(dst, &w.Before)
	o.alters()
	switch {
	case !dst.isDir():
		st = nfs3.ErrNotDir
	case o.obj.isDir():
		st = nfs3.ErrIsDir
	case isDots(name):
		st = nfs3.ErrExist
	case !o.fitsLink():
		st = nfs3.ErrNoSpc
	default:
		if st = o.setName(&o.name, name); st == nfs3.OK {
			st = o.link(dst, &dstStat)
		}
	}
	o.postNow(o.obj, a)
	o.postNow(dst, &w.After)
	o.unlock()
	return o.settle(st)
}

func (o *op) link(dst *object, st *unix.Stat_t) nfs3.Status {
	if !o.may(dst, st, creds.Write|creds.Exec) {
		if o.may(dst, st, creds.Exec) && o.keyOf(dst, &o.name) == 0 {
			return nfs3.ErrExist
		}
		return nfs3.ErrAcces
	}
	sp, s := o.spendOn(o.obj, &o.st, spending.Block, 0)
	if s != nfs3.OK {
		return s
	}
	defer sp.end(o.obj)
	to := o.watch(dst)
	defer to.end(dst)
	o.copies(o.obj)
	return status(rawfs.Link(o.obj.fd, dst.fd, &o.name))
}
