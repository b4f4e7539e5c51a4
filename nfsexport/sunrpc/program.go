package sunrpc

import (
	"context"
	"net/netip"
	"time"

	"rubus/nfsexport/xdr"
)

// Status says how a call ended as far as RPC is concerned (RFC 5531 section 9,
// accept_stat, and one more).
type Status uint32

// The ways a call can end.
const (
	Success      Status = 0
	ProgUnavail  Status = 1
	ProgMismatch Status = 2
	ProcUnavail  Status = 3
	GarbageArgs  Status = 4
	SystemErr    Status = 5

	// AuthTooWeak: the procedure wants AUTH_SYS (sent as MSG_DENIED, AUTH_ERROR).
	AuthTooWeak Status = 100 + authTooWeak
	// AuthBad: the credential or verifier was malformed (sent as MSG_DENIED,
	// AUTH_ERROR). The server itself says so; programs do not.
	AuthBad Status = 100 + authBadCred
	// RPCMismatch: not a call of RPC version 2. The server itself says so.
	RPCMismatch Status = 200
	// NoReply: nothing is sent.
	NoReply Status = 201
)

// String is the name that counters use.
func (s Status) String() string {
	switch s {
	case Success:
		return "success"
	case ProgUnavail:
		return "prog_unavail"
	case ProgMismatch:
		return "prog_mismatch"
	case ProcUnavail:
		return "proc_unavail"
	case GarbageArgs:
		return "garbage_args"
	case SystemErr:
		return "system_err"
	case AuthTooWeak:
		return "auth_tooweak"
	case AuthBad:
		return "auth_bad"
	case RPCMismatch:
		return "rpc_mismatch"
	case NoReply:
		return "no_reply"
	}
	return "unknown"
}

// Plan is what a Program knows about a call before it runs.
type Plan struct {
	// Long: the call may take so long (disk, large data, waiting) that others
	// of the same connection must not stand behind it, if it does.
	Long bool
	// Once: the call must not be done twice. Its reply is kept in the Cache.
	Once bool
	// Changes: what the call changes may have changed again once it is answered: then it
	// must not be done, as a copy of it that its client sent before. Its reply is kept with
	// its connection, if it is short and Success, and not to be forgotten.
	Changes bool
	// Reply is the most bytes of results to make room for; 0 means a few
	// hundred. More is allowed, at the price of an allocation.
	Reply int
	// Shared is how many bytes of arguments a cheap call must have in common with
	// the one behind it to be run with it by a Joiner; 0: it is run alone.
	Shared int
	// Data is how many bytes at the end of a long call's arguments, at c.More() and before
	// it, are data that Serve gives to a file by Pour, if it is not in memory; 0: Serve
	// wants all arguments in memory.
	Data int
}

// Program is one RPC program. Its methods are called from many goroutines.
type Program interface {
	// Number is the program's number.
	Number() uint32
	// Versions are the lowest and the highest version it has.
	Versions() (low, high uint32)
	// Plan says how c is to be run. It must not block, and must leave c.Args as
	// they are. Of a large call it may be asked when only the first bytes of its
	// arguments are here, and c.More() are not.
	Plan(c *Call) Plan
	// Serve runs the call and appends its results to w. With a status other
	// than Success, what it appended is taken back. It may block. ctx ends when
	// the connection does.
	Serve(ctx context.Context, c *Call, w *xdr.Writer) Status
}

// Event is one call that was answered, or dropped.
type Event struct {
	Peer                        netip.AddrPort
	Program, Version, Procedure uint32
	// Status is how the call ended for RPC; Result is what the Program said.
	Status Status
	Result uint32
	// Subject is what the Program said that the call was about; nil: unknown, as
	// it is when the reply was Replayed.
	Subject any
	// Duration is the time the Program took.
	Duration time.Duration
	// In and Out are the bytes of arguments and of the reply.
	In, Out int
	// Replayed: the reply came from the Cache, or was kept as Plan.Changes says.
	Replayed bool
}
