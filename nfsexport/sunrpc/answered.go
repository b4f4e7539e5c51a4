package sunrpc

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"
)

// A client that waits for long sends its call again, with its number and on the same
// connection: Linux does so with NFS version 3 over TCP after timeo, which is a minute, and
// then over and over (call_status goes to call_encode in net/sunrpc/clnt.c, which sends what
// was sent already unless the task has RPC_TASK_NO_RETRANS_TIMEOUT, as those of version 4).
// What is read while the first runs is dropped. But it may lie in the socket still when the
// first is answered: behind what was read and had to wait. Its client goes on then, and may
// have written something newer to the same place, here or on another connection: a copy
// that is run now would undo that.
//
// So a connection keeps its last answers to calls that change something (Plan.Changes), and
// a copy is answered, not run. To drop it would not do: while Linux encodes a call anew, its
// request is not among those that wait (xprt_request_dequeue_xprt); an answer to the first
// that comes then is thrown away, and the client waits for one to the copy. An answer too
// many it throws away as well (xprt_lookup_rqst finds nothing).
//
// The room is for what a board has under way when its disk hangs. A copy that is
// read after more answers than there is room for is not known any more, and is run.
//
// A connection that is made anew begins with none: what the old one answered came to the
// client, or is run again before he writes anything newer there (see peers.enter).

const (
	// fewAnswers and manyAnswers are the least and the most that a connection keeps: at
	// most 3 and 46 KiB.
	fewAnswers, manyAnswers = 16, 256
	// answerRoom is the longest reply that is kept. That to a WRITE with all its attributes
	// has 160 bytes.
	answerRoom = 160
	// young is how long an answer is kept for which there may be room: the copy was sent
	// when it came, and only has to be read.
	young = int64(time.Minute)
	// season is after how long there is half the room, if it took a quarter.
	season = int64(5 * time.Minute)
	// toldApart is how many bytes of arguments tell calls apart: those of a WRITE before
	// its data are 88 at most.
	toldApart = 128
)

// answer is one that was given.
type answer struct {
	sum   uint64 // see Server.sum
	at    int64  // when, by the server's clock
	xid   uint32
	n     uint32 // bytes of the reply; 0: there is none
	reply [answerRoom]byte
}

// answered are the last answers of a connection, by number.
type answered struct {
	of    []answer
	since int64 // the season's begin
	n     int   // that came in it
}

// slot is where the answer to a call is, if there is one. Clients count their calls, some of
// them (Linux on a little-endian processor) in the highest byte.
func (a *answered) slot(xid uint32) *answer {
	xid ^= xid >> 16
	xid ^= xid >> 8
	return &a.of[xid&uint32(len(a.of)-1)]
}

// find gives the answer to a call; nil: there is none.
func (a *answered) find(xid uint32, sum uint64) *answer {
	if len(a.of) == 0 {
		return nil
	}
	if e := a.slot(xid); e.xid == xid && e.sum == sum && e.n > 0 {
		return e
	}
	return nil
}

// keep keeps an answer; most are kept at once.
func (a *answered) keep(xid uint32, sum uint64, reply []byte, now int64, most int) {
	if len(a.of) == 0 {
		a.of, a.since = make([]answer, fewAnswers), now
	}
	if a.n++; now-a.since >= season {
		if a.n <= len(a.of)/4 && len(a.of) > fewAnswers {
			a.resize(len(a.of) / 2)
		}
		a.since, a.n = now, 0
	}
	e := a.slot(xid)
	for e.n > 0 && e.xid != xid && now-e.at < young && len(a.of) < most {
		a.resize(2 * len(a.of))
		e = a.slot(xid)
	}
	e.sum, e.at, e.xid, e.n = sum, now, xid, uint32(copy(e.reply[:], reply))
}

// resize makes room for n answers. Of two that belong in one place the younger stays.
func (a *answered) resize(n int) {
	old := a.of
	a.of = make([]answer, n)
	for i := range old {
		if e := a.slot(old[i].xid); old[i].n > 0 && (e.n == 0 || e.at < old[i].at) {
			*e = old[i]
		}
	}
}

// sum tells calls of one number apart: by all but their data, and by what the stamp of a
// credential leaves, in which older kernels put the time (unx_marshal). It is never 0.
func (s *Server) sum(c *Call, plan Plan) uint64 {
	args := c.Args.Rest()
	size := len(args) + c.more
	h := maphash.Bytes(s.seed, args[:max(min(len(args), size-plan.Data, toldApart), 0)])
	h += (uint64(c.Program)<<32 | uint64(c.Version)) * 0x9e3779b97f4a7c15 // odd numbers, by chance
	h += (uint64(c.Procedure)<<32 | uint64(size)) * 0xbf58476d1ce4e5b9
	h += (uint64(c.UID)<<32 | uint64(c.GID)) * 0x94d049bb133111eb
	return h | 1
}

// sentAgain says whether c.call is a copy of one that runs, or was answered: then it is
// answered again.
func (c *conn) sentAgain() bool {
	call := &c.call
	c.mu.Lock()
	if slices.Contains(c.xids, call.XID) {
		c.mu.Unlock()
		return true
	}
	c.crowded = c.crowded && len(c.xids) > 0
	e := c.answered.find(call.XID, call.sum)
	if e == nil {
		c.mu.Unlock()
		return false
	}
	at := c.begin()
	c.w.Buf = append(c.w.Buf, e.reply[:e.n]...)
	c.mu.Unlock()
	if c.s.observe != nil {
		c.s.observe(Event{
			Peer: call.Peer, Program: call.Program, Version: call.Version, Procedure: call.Procedure,
			In: call.Args.Len() + call.more, Out: c.w.Len() - at - markSize, Replayed: true,
		})
	}
	c.end(at, true)
	return true
}

// wasAnswered says whether a call is a copy of one that was.
func (c *conn) wasAnswered(xid uint32, sum uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered.find(xid, sum) != nil
}

// keep keeps the reply to a call, before it is sent, unless the call is not known, was not
// done, or may be asked for again. c.mu is held.
func (c *conn) keep(xid uint32, sum uint64, reply []byte) {
	if sum == 0 || len(reply) > answerRoom || !isSuccess(reply) {
		return
	}
	most := manyAnswers
	if c.who.stranger.Load() {
		most = fewAnswers
	}
	c.answered.keep(xid, sum, reply, c.s.clock.Load(), most)
}

// isSuccess says whether a reply is to a call that its program did.
func isSuccess(reply []byte) bool {
	return len(reply) >= 24 && binary.BigEndian.Uint32(reply[8:]) == replyAccepted &&
		binary.BigEndian.Uint32(reply[20:]) == uint32(Success)
}

// keepAll keeps the replies to calls that were done together, which end c.w.
func (c *conn) keepAll(all []Part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		end := c.w.Len()
		if i+1 < len(all) {
			end = all[i+1].at
		}
		if p := &all[i]; !p.Forget {
			c.keep(p.xid, p.sum, c.w.Buf[p.at+markSize:end])
		}
	}
}
