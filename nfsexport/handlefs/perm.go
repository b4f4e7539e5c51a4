package handlefs

import (
	"slices"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// What may is asked for: the bits of one rwx triple.
const (
	mayRead  = 4
	mayWrite = 2
	mayExec  = 1
)

// may says whether the caller has all of want on obj: what the kernel would
// decide for these credentials. Where a POSIX ACL can have a say, the kernel is
// asked; else the mode bits tell, which spares changing credentials (about 12
// microseconds).
func (o *op) may(obj *object, st *unix.Stat_t, want uint32) bool {
	if o.c.UID == 0 { // CAP_DAC_OVERRIDE
		return want&mayExec == 0 || obj.isDir() || st.Mode&0o111 != 0
	}
	mode := st.Mode
	switch {
	case st.Uid == o.c.UID:
		mode >>= 6
	case mode&0o070 != 0 && o.hasACL(obj):
		return o.as(func() unix.Errno {
			return rawfs.Errno(unix.Faccessat2(obj.fd, "", want, unix.AT_EMPTY_PATH|unix.AT_EACCESS))
		}) == 0
	case st.Gid == o.c.GID || slices.Contains(o.c.Groups, st.Gid):
		mode >>= 3
	}
	return mode&want == want
}

// owns says whether the caller may do what only an owner may.
func (o *op) owns(st *unix.Stat_t) bool { return o.c.UID == 0 || o.c.UID == st.Uid }

// What object.acl says.
const (
	aclUnknown = iota
	aclNone
	aclSome
)

// hasACL says whether obj has an access ACL. Clients have no means to set one,
// so the answer is kept with the object.
func (o *op) hasACL(obj *object) bool {
	if a := obj.acl.Load(); a != aclUnknown {
		return a == aclSome
	}
	a := int32(aclNone)
	if obj.typ != unix.S_IFLNK && o.fs.proc.HasXattr(obj.fd, "system.posix_acl_access") {
		a = aclSome
	}
	obj.acl.Store(a)
	return a == aclSome
}

// The bits of ACCESS (RFC 1813 section 3.3.4).
const (
	accessRead = 1 << iota
	accessLookup
	accessModify
	accessExtend
	accessDelete
	accessExecute
)

// Access implements nfs3.FS. Bits that make no sense for the object's type are
// not given, as the kernel's server does.
func (fs *FS) Access(c *nfs3.Call, fh []byte, want uint32, a *nfs3.PostAttr) (uint32, nfs3.Status) {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return 0, st
	}
	defer o.end()
	o.post(&o.st, a)
	var got uint32
	add := func(bits, need uint32) {
		if want&bits != 0 && o.may(o.obj, &o.st, need) {
			got |= want & bits
		}
	}
	add(accessRead, mayRead)
	if o.obj.isDir() {
		add(accessLookup, mayExec)
		add(accessModify|accessExtend|accessDelete, mayWrite|mayExec)
	} else {
		add(accessModify|accessExtend, mayWrite)
		add(accessExecute, mayExec)
	}
	return got, nfs3.OK
}
