package sunrpc

import (
	"net/netip"
	"time"

	"rubus/nfsexport/xdr"
)

// Words of the RPC protocol (RFC 5531 section 9).
const (
	rpcVersion = 2

	msgCall  = 0
	msgReply = 1

	replyAccepted = 0
	replyDenied   = 1

	rejectRPCMismatch = 0
	rejectAuthError   = 1

	authBadCred = 1
	authBadVerf = 3
	authTooWeak = 5
)

// Flavors of credentials (RFC 5531 section 8.2).
const (
	AuthNone = 0
	AuthSys  = 1
)

const (
	// maxAuth is the longest body of a credential or verifier (RFC 5531 section 8.2).
	maxAuth = 400
	// maxMachine is the longest machine name of AUTH_SYS (RFC 5531 appendix A).
	maxMachine = 255
	// MaxGroups is the number of supplementary groups that AUTH_SYS has room for.
	MaxGroups = 16
)

// Call is the header of one call, and the arguments behind it. It is valid,
// with all its slices, only while the call runs.
type Call struct {
	// Peer is the address the call came from.
	Peer netip.AddrPort
	// UDP says that the call is a datagram.
	UDP bool
	// XID is the number its client gave to the call.
	XID uint32
	// Program, Version and Procedure say what is called.
	Program, Version, Procedure uint32
	// Flavor is AuthNone or AuthSys; other flavors never get to a Program.
	Flavor uint32
	// UID and GID are those of AUTH_SYS.
	UID, GID uint32
	// Args are the arguments, not read yet.
	Args xdr.Reader
	// Begun is not 0 when a server that is gone began this very call and left
	// no reply: the call may have been done. It is the time when that was, in
	// nanoseconds of the Unix clock.
	Begun int64

	// Result is set by the Program: what it wants Event to carry, such as the
	// status word of its answer.
	Result uint32
	// Forget is set by the Program when the answer is "not now", and must not
	// be given again to the same call sent again.
	Forget bool
	// Subject is set by the Program: what the call was about, for Event.
	Subject any

	// wait hands over what this call holds up; nil: nothing.
	wait func()
	// pipes and who are for Splice, which leaves tail; nil: it does nothing.
	pipes *pipes
	who   *peer
	tail  *pipe
	// more counts the bytes behind Args, which are in data or not here yet; those in data
	// have room in memory, too.
	more int
	data *pipe
	room []byte
	// sum tells it apart from others of its number; 0: nobody asks, see answered.go.
	sum uint64
	// began is when the server turned to the call, ended when it was answered:
	// zero while nobody asked.
	began, ended time.Time

	ngroups int
	groups  [MaxGroups]uint32
}

// Waits is to be called by a Program before a long call waits, for a disk or for
// somebody: what would have to wait with it is taken up by others. It may be called
// repeatedly. A call that takes long without a word is noticed, only later.
func (c *Call) Waits() {
	if c.wait != nil {
		c.wait()
	}
}

// Time is when the server turned to the call; zero: it did not look.
func (c *Call) Time() time.Time { return c.began }

// Groups are the supplementary groups of AUTH_SYS, MaxGroups at most.
func (c *Call) Groups() []uint32 { return c.groups[:c.ngroups] }

// verdict is what the header of a message says about it.
type verdict uint8

const (
	// goodCall: Call is complete.
	goodCall verdict = iota
	// notCall: no answer is possible or due.
	notCall
	// wrongRPC: a call of another RPC version.
	wrongRPC
	// badCred and badVerf: a call whose credential or verifier is malformed or
	// of a flavor not spoken here.
	badCred
	badVerf
)

// parse reads the header of msg into c, whose Peer and UDP it leaves alone. It
// gives the verdict; with all but notCall, c.XID can be answered.
func parse(msg []byte, c *Call) verdict {
	r := xdr.NewReader(msg)
	c.XID = r.Uint32()
	kind, version := r.Uint32(), r.Uint32()
	if !r.OK() || kind != msgCall {
		return notCall
	}
	c.Program, c.Version, c.Procedure, c.Flavor = 0, 0, 0, AuthNone
	c.UID, c.GID, c.ngroups = 0, 0, 0
	c.Begun, c.Result, c.Forget, c.Subject = 0, 0, false, nil
	c.began, c.ended, c.wait = time.Time{}, time.Time{}, nil
	c.pipes, c.who, c.tail = nil, nil, nil
	c.more, c.data, c.room = 0, nil, nil
	c.sum = 0
	if version != rpcVersion {
		return wrongRPC
	}
	c.Program, c.Version, c.Procedure = r.Uint32(), r.Uint32(), r.Uint32()
	c.Flavor = r.Uint32()
	n := r.Uint32()
	if !r.OK() {
		return notCall
	}
	cred := r.Fixed(int(min(n, maxAuth)))
	if n > maxAuth || !r.OK() || !c.credential(cred) {
		return badCred
	}
	// Neither flavor has a verifier with anything in it.
	if flavor := r.Uint32(); flavor != AuthNone || r.Uint32() != 0 || !r.OK() {
		return badVerf
	}
	c.Args = r
	return goodCall
}

// credential reads the body of a credential of c.Flavor.
func (c *Call) credential(body []byte) bool {
	switch c.Flavor {
	case AuthNone:
		return len(body) == 0
	case AuthSys: // RFC 5531 appendix A
		r := xdr.NewReader(body)
		r.Uint32() // stamp
		r.Opaque(maxMachine)
		c.UID, c.GID = r.Uint32(), r.Uint32()
		n := r.Uint32()
		if n > MaxGroups {
			return false
		}
		for i := range c.groups[:n] {
			c.groups[i] = r.Uint32()
		}
		c.ngroups = int(n)
		return r.OK()
	default:
		return false
	}
}

// appendAccepted begins the reply to a call that was accepted. After Success
// the results follow; after ProgMismatch the two versions.
func appendAccepted(w *xdr.Writer, xid uint32, st Status) {
	w.Uint32(xid)
	w.Uint32(msgReply)
	w.Uint32(replyAccepted)
	w.Uint32(AuthNone) // our verifier
	w.Uint32(0)
	w.Uint32(uint32(st))
}

// appendAuthError is the whole reply to a call whose credential is refused.
func appendAuthError(w *xdr.Writer, xid, why uint32) {
	w.Uint32(xid)
	w.Uint32(msgReply)
	w.Uint32(replyDenied)
	w.Uint32(rejectAuthError)
	w.Uint32(why)
}

// appendRPCMismatch is the whole reply to a call of another RPC version.
func appendRPCMismatch(w *xdr.Writer, xid uint32) {
	w.Uint32(xid)
	w.Uint32(msgReply)
	w.Uint32(replyDenied)
	w.Uint32(rejectRPCMismatch)
	w.Uint32(rpcVersion)
	w.Uint32(rpcVersion)
}
