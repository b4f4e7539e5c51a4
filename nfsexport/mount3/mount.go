package mount3

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// The program's numbers (RFC 1813 section 5.0).
const (
	Number  = 100005
	Version = 3
	// MaxPath is the longest path a client may name, in bytes.
	MaxPath = 1024
	// maxHandle is the longest file handle in bytes (fhandle3).
	maxHandle = 64
)

// The procedures (RFC 1813 section 5.2).
const (
	procNull = iota
	procMnt
	procDump
	procUmnt
	procUmntAll
	procExport
)

// Status is mountstat3 (RFC 1813 section 5.1.5).
type Status uint32

// The statuses.
const (
	OK             Status = 0
	ErrPerm        Status = 1
	ErrNoEnt       Status = 2
	ErrIO          Status = 5
	ErrAcces       Status = 13
	ErrNotDir      Status = 20
	ErrInval       Status = 22
	ErrNameTooLong Status = 63
	ErrNotSupp     Status = 10004
	ErrServerFault Status = 10006

	// Later is not of the RFC: nothing is answered, and the client asks again.
	// Any status would end its boot.
	Later Status = 1<<32 - 1
)

// String is the name of the status in the RFC, in short.
func (s Status) String() string {
	switch s {
	case OK:
		return "ok"
	case ErrPerm:
		return "perm"
	case ErrNoEnt:
		return "noent"
	case ErrIO:
		return "io"
	case ErrAcces:
		return "acces"
	case ErrNotDir:
		return "notdir"
	case ErrInval:
		return "inval"
	case ErrNameTooLong:
		return "nametoolong"
	case ErrNotSupp:
		return "notsupp"
	case ErrServerFault:
		return "serverfault"
	case Later:
		return "later"
	}
	return strconv.Itoa(int(s))
}

// Mounter decides who may mount what.
type Mounter interface {
	// Mount gives the file handle of the root at path to peer, or says why not.
	// path is as the client wrote it, without a trailing slash, 1 to MaxPath
	// bytes, without NUL. Mount may wait for the root to be ready until ctx
	// ends; when it still is not, Later is the answer to give.
	Mount(ctx context.Context, path string, peer netip.AddrPort) (handle []byte, st Status)
}

// MounterFunc is a function as a Mounter.
type MounterFunc func(ctx context.Context, path string, peer netip.AddrPort) (handle []byte, st Status)

// Mount implements Mounter.
func (f MounterFunc) Mount(ctx context.Context, path string, peer netip.AddrPort) ([]byte, Status) {
	return f(ctx, path, peer)
}

// Program is the MOUNT program. It implements sunrpc.Program. It keeps no list
// of who mounted what (which DUMP would give): such a list is wrong after the
// first power cut of a client, and tells clients about each other. For the
// same reason EXPORT names nothing.
type Program struct {
	m    Mounter
	wait time.Duration
}

// New makes the program that asks m, and lets it wait for at most wait.
func New(m Mounter, wait time.Duration) *Program { return &Program{m, wait} }

// Number implements sunrpc.Program.
func (p *Program) Number() uint32 { return Number }

// Versions implements sunrpc.Program.
func (p *Program) Versions() (low, high uint32) { return Version, Version }

// Plan implements sunrpc.Program.
func (p *Program) Plan(c *sunrpc.Call) sunrpc.Plan { return sunrpc.Plan{Long: c.Procedure == procMnt} }

// Serve implements sunrpc.Program.
func (p *Program) Serve(ctx context.Context, c *sunrpc.Call, w *xdr.Writer) sunrpc.Status {
	switch c.Procedure {
	case procNull:
	case procMnt:
		return p.mnt(ctx, c, w)
	case procUmnt:
		if c.Args.Opaque(MaxPath); !c.Args.OK() {
			return sunrpc.GarbageArgs
		}
	case procUmntAll:
	case procDump, procExport:
		w.Bool(false) // the end of an empty list
	default:
		return sunrpc.ProcUnavail
	}
	return sunrpc.Success
}

// mnt is MNT (section 5.2.1): path -> handle, flavors. AUTH_NONE is taken too:
// who may mount is decided by address, and the credential proves nothing.
func (p *Program) mnt(ctx context.Context, c *sunrpc.Call, w *xdr.Writer) sunrpc.Status {
	raw := c.Args.Opaque(c.Args.Len())
	if !c.Args.OK() {
		return sunrpc.GarbageArgs
	}
	path, st := cleanPath(raw)
	var handle []byte
	if st == OK {
		ctx, cancel := context.WithTimeout(ctx, p.wait)
		defer cancel()
		handle, st = p.m.Mount(ctx, path, c.Peer)
	}
	if st == OK && (len(handle) == 0 || len(handle) > maxHandle) {
		st = ErrServerFault
	}
	c.Result = uint32(st)
	if st == Later {
		return sunrpc.NoReply
	}
	w.Uint32(uint32(st))
	if st == OK {
		w.Opaque(handle)
		w.Uint32(1) // flavors
		w.Uint32(sunrpc.AuthSys)
	}
	return sunrpc.Success
}

// cleanPath gives the path to look for.
func cleanPath(raw []byte) (string, Status) {
	if len(raw) > MaxPath {
		return "", ErrNameTooLong
	}
	path := string(raw)
	if path == "" || strings.IndexByte(path, 0) >= 0 {
		return "", ErrInval
	}
	// Clients take the path from a person: "host:/dir/" means "/dir".
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		return trimmed, OK
	}
	return "/", OK
}
