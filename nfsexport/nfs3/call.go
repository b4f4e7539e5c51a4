package nfs3

import (
	"math"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// maxSize is the largest size of a file, and the end of the largest offset:
// what the kernel's signed offsets can say.
const maxSize = math.MaxInt64

// call is one call on its way: what comes from the client, and room for what
// comes from the FS. It is reused, so that a call allocates nothing.
type call struct {
	Call
	fs FS
	rc *sunrpc.Call
	// spliced is how many bytes of data are behind what is in w, of toSplice at most.
	spliced, toSplice int
	r                 xdr.Reader
	w                 *xdr.Writer

	// Arguments.
	set   SetAttr
	guard Time

	// Out-parameters; a procedure zeroes what it uses.
	attr        Attr
	post, post2 PostAttr
	wcc, wcc2   Wcc
	made        New
	handle      []byte
	text        []byte
	stat        FSStat
	conf        PathConf
	dir         dirReply
	pieces      []Piece
}

func newCall(fs FS) *call {
	c := &call{fs: fs}
	c.made.Handle = make([]byte, 0, MaxHandle)
	c.handle = make([]byte, 0, MaxHandle)
	return c
}

// fh reads a file handle (RFC 1813 section 2.5, nfs_fh3).
func (c *call) fh() []byte { return c.r.Opaque(MaxHandle) }

// name reads a name. Garbage it is only when it does not end within the
// message; checkName says what is wrong with it otherwise.
func (c *call) name() string { return c.r.String(math.MaxInt32) }

// checkName says whether a name can be one of a directory entry. RFC 1813
// section 3.2: a name that the server cannot take is answered NFS3ERR_ACCES.
func checkName(name string) Status {
	if len(name) > MaxName {
		return ErrNameTooLong
	}
	if name == "" {
		return ErrAcces
	}
	for i := range len(name) {
		if name[i] == 0 || name[i] == '/' {
			return ErrAcces
		}
	}
	return OK
}

// isDot says whether a name is one of the two that every directory has.
func isDot(name string) bool { return name == "." || name == ".." }

// newName is checkName for a name to be given to something. That "." and ".."
// exist is what nfsd says.
func newName(name string) Status {
	if isDot(name) {
		return ErrExist
	}
	return checkName(name)
}

// time reads an nfstime3.
func (c *call) time() Time { return Time{Sec: c.r.Uint32(), Nsec: c.r.Uint32()} }

// sattr reads a sattr3 into c.set (RFC 1813 section 2.5).
func (c *call) sattr() {
	s := &c.set
	*s = SetAttr{}
	if s.SetMode = c.r.Bool(); s.SetMode {
		s.Mode = c.r.Uint32() & 0o7777
	}
	if s.SetUID = c.r.Bool(); s.SetUID {
		s.UID = c.r.Uint32()
	}
	if s.SetGID = c.r.Bool(); s.SetGID {
		s.GID = c.r.Uint32()
	}
	if s.SetSize = c.r.Bool(); s.SetSize {
		s.Size = c.r.Uint64()
	}
	s.SetAtime = c.setTime(&s.Atime)
	s.SetMtime = c.setTime(&s.Mtime)
}

func (c *call) setTime(t *Time) SetTime {
	how := SetTime(c.r.Uint32())
	switch how {
	case KeepTime, SetToServer:
	case SetToClient:
		*t = c.time()
	default:
		c.r.Fail()
	}
	return how
}

// checkSet says whether the values of c.set are possible ones.
func (c *call) checkSet() Status {
	s := &c.set
	if s.SetAtime == SetToClient && s.Atime.Nsec >= 1e9 || s.SetMtime == SetToClient && s.Mtime.Nsec >= 1e9 {
		return ErrInval
	}
	if s.SetSize && s.Size > maxSize {
		return ErrFBig
	}
	return OK
}

// checkFH says whether a handle may be given to the FS.
func checkFH(fh []byte) Status {
	if len(fh) == 0 {
		return ErrBadHandle
	}
	return OK
}

// first gives the first status that is not OK.
func first(st ...Status) Status {
	for _, s := range st {
		if s != OK {
			return s
		}
	}
	return OK
}

func (c *call) status(st Status) { c.w.Uint32(uint32(st)) }
