package nfs3

import "strconv"

// Status is nfsstat3 (RFC 1813 section 2.6).
type Status uint32

// The statuses of RFC 1813.
const (
	OK             Status = 0
	ErrPerm        Status = 1
	ErrNoEnt       Status = 2
	ErrIO          Status = 5
	ErrNxIO        Status = 6
	ErrAcces       Status = 13
	ErrExist       Status = 17
	ErrXDev        Status = 18
	ErrNoDev       Status = 19
	ErrNotDir      Status = 20
	ErrIsDir       Status = 21
	ErrInval       Status = 22
	ErrFBig        Status = 27
	ErrNoSpc       Status = 28
	ErrROFS        Status = 30
	ErrMLink       Status = 31
	ErrNameTooLong Status = 63
	ErrNotEmpty    Status = 66
	ErrDQuot       Status = 69
	ErrStale       Status = 70
	ErrRemote      Status = 71
	ErrBadHandle   Status = 10001
	ErrNotSync     Status = 10002
	ErrBadCookie   Status = 10003
	ErrNotSupp     Status = 10004
	ErrTooSmall    Status = 10005
	ErrServerFault Status = 10006
	ErrBadType     Status = 10007
	ErrJukebox     Status = 10008
)

// String is the name that RFC 1813 gives it, without NFS3ERR_.
func (s Status) String() string {
	switch s {
	case OK:
		return "OK"
	case ErrPerm:
		return "PERM"
	case ErrNoEnt:
		return "NOENT"
	case ErrIO:
		return "IO"
	case ErrNxIO:
		return "NXIO"
	case ErrAcces:
		return "ACCES"
	case ErrExist:
		return "EXIST"
	case ErrXDev:
		return "XDEV"
	case ErrNoDev:
		return "NODEV"
	case ErrNotDir:
		return "NOTDIR"
	case ErrIsDir:
		return "ISDIR"
	case ErrInval:
		return "INVAL"
	case ErrFBig:
		return "FBIG"
	case ErrNoSpc:
		return "NOSPC"
	case ErrROFS:
		return "ROFS"
	case ErrMLink:
		return "MLINK"
	case ErrNameTooLong:
		return "NAMETOOLONG"
	case ErrNotEmpty:
		return "NOTEMPTY"
	case ErrDQuot:
		return "DQUOT"
	case ErrStale:
		return "STALE"
	case ErrRemote:
		return "REMOTE"
	case ErrBadHandle:
		return "BADHANDLE"
	case ErrNotSync:
		return "NOT_SYNC"
	case ErrBadCookie:
		return "BAD_COOKIE"
	case ErrNotSupp:
		return "NOTSUPP"
	case ErrTooSmall:
		return "TOOSMALL"
	case ErrServerFault:
		return "SERVERFAULT"
	case ErrBadType:
		return "BADTYPE"
	case ErrJukebox:
		return "JUKEBOX"
	}
	return strconv.FormatUint(uint64(s), 10)
}
