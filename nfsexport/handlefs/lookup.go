package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// GetAttr implements nfs3.FS.
func (fs *FS) GetAttr(c *nfs3.Call, fh []byte, a *nfs3.Attr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.attr(&o.st, a)
	return nfs3.OK
}

// Lookup implements nfs3.FS.
func (fs *FS) Lookup(c *nfs3.Call, dir []byte, name string, h *[]byte, a, dirAttr *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, dir)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, dirAttr)
	if !o.obj.isDir() {
		return nfs3.ErrNotDir
	}
	if !o.may(o.obj, &o.st, creds.Exec) {
		return nfs3.ErrAcces
	}
	if name == "." || name == ".." && o.obj.isRoot() {
		*h = append(*h, o.obj.handle()...)
		o.post(&o.st, a)
		return nfs3.OK
	}
	if st := o.setName(&o.name, name); st != nfs3.OK {
		return st
	}
	var kid unix.Stat_t
	obj, st := o.named(o.obj, &o.st, name, &kid)
	if o.alter.Running() {
		o.postNow(o.obj, dirAttr)
	}
	if st != nfs3.OK {
		return st
	}
	*h = append(*h, obj.handle()...)
	o.post(&kid, a)
	fs.cache.release(obj)
	return nfs3.OK
}

// ReadLink implements nfs3.FS. Like the kernel's server it asks for no
// permission.
func (fs *FS) ReadLink(c *nfs3.Call, fh []byte, text *[]byte, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	if o.obj.typ != unix.S_IFLNK {
		return nfs3.ErrInval
	}
	var buf [nfs3.MaxPath]byte
	o.altersFile(o.obj) // it may move the time of the last access
	n, e := rawfs.ReadLink(o.obj.fd, buf[:])
	if e != 0 {
		return status(e)
	}
	*text = append(*text, buf[:n]...)
	return nfs3.OK
}

// FSInfo implements nfs3.FS.
func (fs *FS) FSInfo(c *nfs3.Call, fh []byte, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	return nfs3.OK
}

// linkMax is what ext4 allows; other file systems allow more.
const linkMax = 65000

// PathConf implements nfs3.FS.
func (fs *FS) PathConf(c *nfs3.Call, fh []byte, p *nfs3.PathConf, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	*p = nfs3.PathConf{LinkMax: linkMax, NameMax: nfs3.MaxName, NoTrunc: true, ChownRestricted: true, CasePreserve: true}
	return nfs3.OK
}
