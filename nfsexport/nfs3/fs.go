package nfs3

import (
	"net/netip"
	"time"
)

// Limits of NFSv3 and of this server.
const (
	// MaxHandle is the longest file handle in bytes (RFC 1813 section 2.4).
	MaxHandle = 64
	// MaxName is the longest name of a directory entry in bytes.
	MaxName = 255
	// MaxPath is the longest symbolic link in bytes.
	MaxPath = 4096
	// MaxIO is the largest READ and WRITE in bytes.
	MaxIO = 1 << 20
)

// Call says who calls. It is valid, with all its slices, only while the call runs.
type Call struct {
	// Peer is the transport address the call came from.
	Peer netip.AddrPort
	// UID, GID and Groups are the AUTH_SYS credential (RFC 5531 appendix A).
	UID, GID uint32
	// Groups are the supplementary groups, 16 at most.
	Groups []uint32
	// Time is when the call came; zero: not looked at.
	Time time.Time
	// Waits, unless nil, is to be called by the FS before it waits for a disk: other
	// calls are made meanwhile.
	Waits func()
	// Splice, unless nil, is what Read may do once instead of filling its buffer: n
	// bytes of the file fd, from off on, go from the file's pages to the client, so
	// nobody may write to them any more. It gives how many it took: fewer than n at the
	// file's end or before what cannot be read; 0: the buffer is to be filled.
	Splice func(fd int, off int64, n int) int
	// Poured is how many bytes of data a Write has instead of those given to it, which
	// are none then: they are not in memory, and Pour writes them to the file fd, from
	// off on. It gives how many went, as many as go, and an error (a unix.Errno) when
	// none does. It is called once at most.
	Poured int
	Pour   func(fd int, off int64) (int, error)
	// Subject is set by the FS (so a Call is for one call at a time) to what the handle belongs to, once the caller
	// may use it. It is told to those who observe calls.
	Subject any
}

// Time is a point in time to the nanosecond (RFC 1813 section 2.5, nfstime3).
type Time struct{ Sec, Nsec uint32 }

// FileType is ftype3 (RFC 1813 section 2.5).
type FileType uint32

// The file types.
const (
	TypeReg FileType = iota + 1
	TypeDir
	TypeBlock
	TypeChar
	TypeLink
	TypeSocket
	TypeFifo
)

// Attr is fattr3 (RFC 1813 section 2.5).
type Attr struct {
	Type                FileType
	Mode                uint32 // permission bits with setuid, setgid and sticky
	Nlink               uint32
	UID, GID            uint32
	Size, Used          uint64 // bytes
	Major, Minor        uint32 // of a device node
	FSID, FileID        uint64
	Atime, Mtime, Ctime Time
}

// PostAttr is post_op_attr: attributes if they could be had.
type PostAttr struct {
	OK bool
	Attr
}

// PreAttr is pre_op_attr: what weak cache consistency compares.
type PreAttr struct {
	OK           bool
	Size         uint64
	Mtime, Ctime Time
}

// Wcc is wcc_data: an object's attributes before and after the call.
type Wcc struct {
	Before PreAttr
	After  PostAttr
}

// SetTime says what to do with a time in a SetAttr.
type SetTime uint32

// What SETATTR can do with a time (RFC 1813 section 2.5, time_how).
const (
	KeepTime SetTime = iota
	SetToServer
	SetToClient
)

// SetAttr is sattr3: what to change.
type SetAttr struct {
	SetMode, SetUID, SetGID, SetSize bool
	Mode, UID, GID                   uint32
	Size                             uint64
	SetAtime, SetMtime               SetTime
	Atime, Mtime                     Time
}

// CreateMode is createmode3 (RFC 1813 section 3.3.8).
type CreateMode uint32

// The ways to create a file.
const (
	Unchecked CreateMode = iota
	Guarded
	Exclusive
)

// Stable is stable_how (RFC 1813 section 3.3.7).
type Stable uint32

// How stable a WRITE must be when it is answered.
const (
	Unstable Stable = iota
	DataSync
	FileSync
)

// Piece is one of several READs or WRITEs of one file.
type Piece struct {
	Off  uint64
	Data []byte // to be filled, or written
	N    int    // how many bytes were
	EOF  bool   // READ: the end of the file was reached
	Status
}

// New is the answer to a call that makes an object. Handle is appended to by
// the FS and may be empty (post_op_fh3: not given).
type New struct {
	Handle []byte
	Attr   PostAttr
	Dir    Wcc
}

// Entry is one directory entry. Handle and Attr are asked for by READDIRPLUS only.
type Entry struct {
	FileID uint64
	Name   string
	Cookie uint64
	Attr   PostAttr
	Handle []byte // empty: not given
}

// FSStat is the answer to FSSTAT: bytes and files in all, free, and available.
type FSStat struct{ Tbytes, Fbytes, Abytes, Tfiles, Ffiles, Afiles uint64 }

// PathConf is the answer to PATHCONF that differs between file systems.
type PathConf struct {
	LinkMax, NameMax                                 uint32
	NoTrunc, ChownRestricted, CaseFold, CasePreserve bool
}

// FS is what the NFS program serves. Handles are those of the wire; the FS
// checks that they are its own, that Call may use them, and all permissions.
// Every method may be called from many goroutines at once and may block on
// disk. Strings, byte slices and pointers given to a method are valid only
// until it returns. Out-parameters come zeroed; a method fills what it can
// even when it fails, because RFC 1813 wants attributes with most errors.
// Names come bounded (1 to MaxName bytes) but otherwise as on the wire.
type FS interface {
	GetAttr(c *Call, fh []byte, a *Attr) Status
	// SetAttr changes fh; with guard not nil only if its ctime is *guard (else NotSync).
	SetAttr(c *Call, fh []byte, s *SetAttr, guard *Time, w *Wcc) Status
	// Lookup appends the handle to *h. "." and ".." are names like others here;
	// ".." of the export's root is the root.
	Lookup(c *Call, dir []byte, name string, h *[]byte, a, dirAttr *PostAttr) Status
	// Access gives the bits of want that the caller has (RFC 1813 section 3.3.4).
	Access(c *Call, fh []byte, want uint32, a *PostAttr) (uint32, Status)
	// ReadLink appends the link's text to *text.
	ReadLink(c *Call, fh []byte, text *[]byte, a *PostAttr) Status
	// Read fills buf from offset off and gives the number of bytes and whether
	// the end of the file was reached. buf lies in the reply itself; what Splice
	// took is not in it.
	Read(c *Call, fh []byte, off uint64, buf []byte, a *PostAttr) (n int, eof bool, st Status)
	// Write writes data, or what Pour has, and says how stable it is now: at least what
	// was asked.
	Write(c *Call, fh []byte, off uint64, data []byte, how Stable, w *Wcc) (n int, done Stable, st Status)
	// ReadAll and WriteAll do pieces, which come with offset and data only, in their
	// order: calls that c made at once. Each ends as its own Status says, unless one is
	// given that is of all. a is of after the last, w.Before of before the first, as
	// when they run side by side. What is written is Unstable.
	ReadAll(c *Call, fh []byte, pieces []Piece, a *PostAttr) Status
	WriteAll(c *Call, fh []byte, pieces []Piece, w *Wcc) Status
	// Create makes a regular file. With Exclusive, verf is stored with the file
	// and s is nil.
	Create(c *Call, dir []byte, name string, mode CreateMode, s *SetAttr, verf uint64, n *New) Status
	Mkdir(c *Call, dir []byte, name string, s *SetAttr, n *New) Status
	Symlink(c *Call, dir []byte, name, text string, s *SetAttr, n *New) Status
	// Mknod makes a device node, socket or fifo.
	Mknod(c *Call, dir []byte, name string, t FileType, major, minor uint32, s *SetAttr, n *New) Status
	Remove(c *Call, dir []byte, name string, w *Wcc) Status
	Rmdir(c *Call, dir []byte, name string, w *Wcc) Status
	Rename(c *Call, from []byte, fromName string, to []byte, toName string, wFrom, wTo *Wcc) Status
	Link(c *Call, fh, dir []byte, name string, a *PostAttr, w *Wcc) Status
	// ReadDir gives each entry after cookie to to, in cookie order, until one is not
	// taken (the reply is full) or the directory ends (eof). plus asks for Attr and
	// Handle; a Run is given only then. *verf comes with the client's verifier and
	// leaves with the one to give.
	ReadDir(c *Call, dir []byte, cookie uint64, verf *uint64, plus bool, to Entries, a *PostAttr) (eof bool, st Status)
	FSStat(c *Call, fh []byte, s *FSStat, a *PostAttr) Status
	// FSInfo says whether fh may be asked; the figures are the program's.
	FSInfo(c *Call, fh []byte, a *PostAttr) Status
	PathConf(c *Call, fh []byte, p *PathConf, a *PostAttr) Status
	// Commit puts the file's data of [off, off+count) on disk (count 0: to the end).
	Commit(c *Call, fh []byte, off uint64, count uint32, w *Wcc) Status
	// Settle brings to disk what was done to fh and its names: for a call that
	// was done by a server that was killed before it answered.
	Settle(c *Call, fh []byte) Status
	// WriteVerifier is what WRITE and COMMIT carry (RFC 1813 section 3.3.7): it
	// changes whenever unstable data of this file's export may have been lost.
	WriteVerifier(fh []byte) uint64
}
