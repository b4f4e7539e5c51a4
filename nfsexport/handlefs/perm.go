package handlefs

import (
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// caller is who makes the call.
func (o *op) caller() creds.Caller {
	return creds.Caller{UID: o.c.UID, GID: o.c.GID, Groups: o.c.Groups}
}

// as runs f as the caller, see creds.Caller.Run.
func (o *op) as(f func() unix.Errno) unix.Errno {
	e, stuck := o.caller().Run(f)
	if stuck {
		o.fs.event(CredentialsStuck, slog.LevelError, "a thread kept a caller's credentials and is discarded",
			o.exp.ID, errors.New("setfsuid: not restored"))
	}
	return e
}

// may says whether the caller has all of want on obj: what the kernel would
// decide for these credentials. It is asked only where a POSIX ACL has a say.
func (o *op) may(obj *object, st *unix.Stat_t, want uint32) bool {
	c := o.caller()
	ok, acl := c.May(st, want)
	if acl && o.hasACL(obj) {
		return o.as(func() unix.Errno {
			return rawfs.Errno(unix.Faccessat2(obj.fd, "", want, unix.AT_EMPTY_PATH|unix.AT_EACCESS))
		}) == 0
	}
	return ok
}

// owns says whether the caller may do what only an owner may.
func (o *op) owns(st *unix.Stat_t) bool {
	c := o.caller()
	return c.Owns(st)
}

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
	add(accessRead, creds.Read)
	if o.obj.isDir() {
		add(accessLookup, creds.Exec)
		add(accessModify|accessExtend|accessDelete, creds.Write|creds.Exec)
	} else {
		add(accessModify|accessExtend, creds.Write)
		add(accessExecute, creds.Exec)
	}
	return got, nfs3.OK
}
