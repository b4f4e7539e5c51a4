package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// status is the one table from the kernel's errors to the wire's. It follows
// the kernel's own server: what passes by itself is JUKEBOX, on which a client
// waits and asks again; what no one foresaw is IO.
func status(e unix.Errno) nfs3.Status {
	switch e {
	case 0:
		return nfs3.OK
	case unix.EPERM:
		return nfs3.ErrPerm
	case unix.ENOENT:
		return nfs3.ErrNoEnt
	case unix.ENXIO:
		return nfs3.ErrNxIO
	case unix.EACCES, unix.EBUSY, unix.ELOOP:
		return nfs3.ErrAcces
	case unix.EEXIST:
		return nfs3.ErrExist
	case unix.EXDEV:
		return nfs3.ErrXDev
	case unix.ENODEV:
		return nfs3.ErrNoDev
	case unix.ENOTDIR:
		return nfs3.ErrNotDir
	case unix.EISDIR:
		return nfs3.ErrIsDir
	case unix.EINVAL:
		return nfs3.ErrInval
	case unix.EFBIG, unix.EOVERFLOW:
		return nfs3.ErrFBig
	case unix.ENOSPC:
		return nfs3.ErrNoSpc
	case unix.EROFS:
		return nfs3.ErrROFS
	case unix.EMLINK:
		return nfs3.ErrMLink
	case unix.ENAMETOOLONG:
		return nfs3.ErrNameTooLong
	case unix.ENOTEMPTY:
		return nfs3.ErrNotEmpty
	case unix.EDQUOT:
		return nfs3.ErrDQuot
	case unix.ESTALE:
		return nfs3.ErrStale
	case unix.EOPNOTSUPP:
		return nfs3.ErrNotSupp
	case unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EINTR, unix.ETIMEDOUT, unix.ETXTBSY:
		return nfs3.ErrJukebox
	default:
		return nfs3.ErrIO
	}
}
