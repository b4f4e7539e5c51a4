package nfsload

import (
	"encoding/binary"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// Where things lie in a record: its mark, the call's number.
const (
	markSize = 4
	lastMark = 1 << 31
)

// Call is one call, ready to be sent: a whole record, whose number is filled in
// when it is sent.
type Call []byte

// Encode makes a call of root's. args appends its arguments.
func Encode(program, version, procedure uint32, args func(*xdr.Writer)) Call {
	var w xdr.Writer
	w.Uint32(0) // mark
	w.Uint32(0) // xid
	w.Uint32(0) // CALL
	w.Uint32(2) // RPC version
	w.Uint32(program)
	w.Uint32(version)
	w.Uint32(procedure)
	// AUTH_SYS: stamp, machine, uid, gid, no groups (RFC 5531 appendix A).
	w.Uint32(sunrpc.AuthSys)
	var cred xdr.Writer
	cred.Uint32(0)
	cred.String("board")
	cred.Uint32(0)
	cred.Uint32(0)
	cred.Uint32(0)
	w.Opaque(cred.Buf)
	w.Uint32(sunrpc.AuthNone)
	w.Uint32(0)
	if args != nil {
		args(&w)
	}
	w.PutUint32(0, uint32(w.Len()-markSize)|lastMark)
	return w.Buf
}

// Reply is the front of an answer: as much as was asked for.
type Reply struct {
	xid uint32
	// Accepted: RPC took the call and says Success.
	Accepted bool
	// Results are those of the procedure, from their first word on.
	Results []byte
	// Size is the length of the record, with its mark.
	Size int
}

// Status is the first word of the results, which is nfsstat3 for all
// procedures but NULL.
func (r *Reply) Status() uint32 {
	if len(r.Results) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(r.Results)
}

// replyHeader is what lies before the results when a call is accepted with an
// empty verifier: mark, xid, REPLY, MSG_ACCEPTED, verifier, accept_stat.
const replyHeader = markSize + 24

// parseReply reads the front of a record of size bytes.
func parseReply(b []byte, size int) (r Reply) {
	be := binary.BigEndian
	r.Size = size
	if len(b) < markSize+8 {
		return r
	}
	r.xid = be.Uint32(b[4:])
	if len(b) < replyHeader {
		return r
	}
	r.Accepted = be.Uint32(b[8:]) == 1 && be.Uint32(b[12:]) == 0 && be.Uint32(b[20:]) == 0 && be.Uint32(b[24:]) == 0
	r.Results = b[replyHeader:]
	return r
}
