package nfs3

import (
	"context"
	"encoding/binary"
	"sync"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// The program's numbers (RFC 1813 section 1.1).
const (
	Number  = 100003
	Version = 3
)

// The procedures (RFC 1813 section 3).
const (
	ProcNull = iota
	ProcGetAttr
	ProcSetAttr
	ProcLookup
	ProcAccess
	ProcReadLink
	ProcRead
	ProcWrite
	ProcCreate
	ProcMkdir
	ProcSymlink
	ProcMknod
	ProcRemove
	ProcRmdir
	ProcRename
	ProcLink
	ProcReadDir
	ProcReadDirPlus
	ProcFSStat
	ProcFSInfo
	ProcPathConf
	ProcCommit
	// Procs is the number of procedures.
	Procs
)

const (
	// cheapIO is the largest READ and WRITE that is done in the connection's
	// reader: about what a context switch costs.
	cheapIO = 16 << 10
	// maxDirReply bounds the results of READDIR and READDIRPLUS, whatever the
	// client has room for.
	maxDirReply = 64 << 10
)

// Program is the NFS version 3 program over an FS. It implements sunrpc.Program.
type Program struct {
	fs    FS
	calls sync.Pool // of *call
}

// NewProgram makes the program that serves fs.
func NewProgram(fs FS) *Program { return &Program{fs: fs} }

// Number implements sunrpc.Program.
func (p *Program) Number() uint32 { return Number }

// Versions implements sunrpc.Program.
func (p *Program) Versions() (low, high uint32) { return Version, Version }

// Plan implements sunrpc.Program.
func (p *Program) Plan(c *sunrpc.Call) sunrpc.Plan {
	switch c.Procedure {
	case ProcRead:
		args := c.Args
		fh := args.Opaque(MaxHandle)
		args.Uint64()
		n := int(min(args.Uint32(), MaxIO))
		long := n > cheapIO
		return sunrpc.Plan{Long: long, Reply: n, Shared: shared(fh, !long && args.OK())}
	case ProcWrite:
		// The data is most of the call. What is asked to be stable waits for
		// the disk.
		args := c.Args
		fh := args.Opaque(MaxHandle)
		args.Uint64()
		count, all := args.Uint32(), args.Len()+c.More()
		how := Stable(args.Uint32())
		long := all > cheapIO || how != Unstable
		plan := sunrpc.Plan{Long: long, Changes: true, Shared: shared(fh, !long && args.OK())}
		// What is not as it should be is looked at whole.
		if n := args.Uint32(); long && args.OK() && n == count && n%4 == 0 && n <= MaxIO && int(n) == args.Len()+c.More() {
			plan.Data = int(n)
		}
		return plan
	case ProcReadDir, ProcReadDirPlus:
		return sunrpc.Plan{Long: true, Reply: maxDirReply}
	case ProcReadLink:
		return sunrpc.Plan{Reply: MaxPath}
	case ProcCommit:
		return sunrpc.Plan{Long: true}
	case ProcSetAttr:
		return sunrpc.Plan{Long: true, Once: true, Changes: true}
	case ProcCreate, ProcMkdir, ProcSymlink, ProcMknod, ProcRemove, ProcRmdir, ProcRename, ProcLink:
		return sunrpc.Plan{Long: true, Once: true}
	}
	return sunrpc.Plan{}
}

// Serve implements sunrpc.Program.
func (p *Program) Serve(_ context.Context, rc *sunrpc.Call, w *xdr.Writer) sunrpc.Status {
	if rc.Procedure == ProcNull {
		return sunrpc.Success // section 3.3.0: no arguments, no results
	}
	if rc.Procedure >= Procs {
		return sunrpc.ProcUnavail
	}
	if rc.Flavor != sunrpc.AuthSys {
		return sunrpc.AuthTooWeak
	}
	c := p.take(rc, w)
	at := w.Len()
	ok := c.dispatch(rc.Procedure)
	if ok {
		st := Status(binary.BigEndian.Uint32(w.Buf[at:]))
		rc.Result, rc.Forget, rc.Subject = uint32(st), st == ErrJukebox, c.Subject
	}
	p.give(c)
	if !ok {
		return sunrpc.GarbageArgs
	}
	return sunrpc.Success
}

// take makes a call of rc.
func (p *Program) take(rc *sunrpc.Call, w *xdr.Writer) *call {
	c, ok := p.calls.Get().(*call)
	if !ok {
		c = newCall(p.fs)
	}
	c.rc, c.w, c.r = rc, w, rc.Args
	if c.Waits == nil {
		// Once: a call is used again.
		c.Waits = func() { c.rc.Waits() }
		c.Splice = func(fd int, off int64, n int) int {
			c.spliced = c.rc.Splice(fd, off, min(n, c.toSplice))
			return c.spliced
		}
		c.Pour = func(fd int, off int64) (int, error) { return c.rc.Pour(fd, off) }
	}
	c.Poured = 0
	c.Peer, c.UID, c.GID, c.Groups, c.Time = rc.Peer, rc.UID, rc.GID, rc.Groups(), rc.Time()
	return c
}

// give gives it back. One that panicked is not: nobody knows what it left behind.
func (p *Program) give(c *call) {
	clear(c.pieces)
	c.rc, c.w, c.r, c.Groups, c.Subject = nil, nil, xdr.Reader{}, nil, nil
	p.calls.Put(c)
}

// dispatch runs a procedure; false means that its arguments are garbage, and
// that nothing was done.
func (c *call) dispatch(proc uint32) bool {
	switch proc {
	case ProcGetAttr:
		return c.getAttr()
	case ProcSetAttr:
		return c.setAttr()
	case ProcLookup:
		return c.lookup()
	case ProcAccess:
		return c.access()
	case ProcReadLink:
		return c.readLink()
	case ProcRead:
		return c.read()
	case ProcWrite:
		return c.write()
	case ProcCreate:
		return c.create()
	case ProcMkdir:
		return c.mkdir()
	case ProcSymlink:
		return c.symlink()
	case ProcMknod:
		return c.mknod()
	case ProcRemove:
		return c.remove(false)
	case ProcRmdir:
		return c.remove(true)
	case ProcRename:
		return c.rename()
	case ProcLink:
		return c.link()
	case ProcReadDir:
		return c.readDir(false)
	case ProcReadDirPlus:
		return c.readDir(true)
	case ProcFSStat:
		return c.fsStat()
	case ProcFSInfo:
		return c.fsInfo()
	case ProcPathConf:
		return c.pathConf()
	case ProcCommit:
		return c.commit()
	}
	return false
}
