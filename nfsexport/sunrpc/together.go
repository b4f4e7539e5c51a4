package sunrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime/debug"
	"time"

	"rubus/nfsexport/xdr"
)

// Calls that lie one behind the other in what was read, and differ in the end of their
// arguments only, are given to a program that wants them so together.

const (
	// maxParts is how many calls are run together at most.
	maxParts = 32
	// partRoom is more than what such a reply takes beside its Plan.Reply bytes.
	partRoom = 192
	// PartHeader is how many bytes Part.Begin writes.
	PartHeader = markSize + 24
)

// Joiner is a Program that can run several calls at once.
type Joiner interface {
	Program
	// ServeAll runs calls for which Plan gave the same Shared bytes of arguments: c is
	// the first, and all of them but for their numbers and arguments. It appends to w
	// the replies, of all calls and in their order, each behind what its Part's Begin
	// writes, and sets their Result. With false nothing was done, and they are run one
	// by one. It may block.
	ServeAll(ctx context.Context, c *Call, parts []Part, w *xdr.Writer) bool
}

// Part is one of several calls that are run together.
type Part struct {
	// Args are its arguments, not read yet.
	Args xdr.Reader
	// Result is as that of Call.
	Result uint32
	// Forget is as that of Call.
	Forget bool

	xid    uint32
	sum    uint64
	at     int // where its reply begins
	record []byte
}

// Begin begins the reply: results of the procedure follow.
func (p *Part) Begin(w *xdr.Writer) {
	p.at = w.Len()
	w.Uint32(0) // mark
	appendAccepted(w, p.xid, Success)
}

// parts are those of one connection's calls, pooled.
type parts struct {
	of [maxParts]Part
	n  int
}

// gather takes the calls behind c.call that can be run with it, as planned, out of
// what was read: nil, when there are none. record is that of c.call.
func (c *conn) gather(p *program, plan Plan, record []byte) *parts {
	at := len(record) - c.call.Args.Len() // of the arguments
	same := record[4 : at+plan.Shared]
	room := mediumBuffer - c.w.Len() - plan.Reply - partRoom
	first := c.call.Args
	var all *parts
	for room > 0 && (all == nil || all.n < maxParts) {
		next := c.frames.peek()
		if len(next) < 4+len(same) || !bytes.Equal(next[4:4+len(same)], same) {
			break
		}
		c.call.Args = xdr.NewReader(next[at:])
		behind := p.Plan(&c.call)
		if room -= behind.Reply + partRoom; behind.Long || behind.Shared != plan.Shared || room < 0 {
			break
		}
		var sum uint64
		if behind.Changes {
			if sum = c.s.sum(&c.call, behind); c.wasAnswered(binary.BigEndian.Uint32(next), sum) {
				break
			}
		}
		c.frames.skip(next)
		if all == nil {
			all = c.s.takeParts()
			all.add(record, first, c.call.sum)
		}
		all.add(next, c.call.Args, sum)
	}
	c.call.Args = first
	return all
}

func (s *Server) takeParts() *parts {
	if all, ok := s.parts.Get().(*parts); ok {
		return all
	}
	return new(parts)
}

func (s *Server) giveParts(all *parts) {
	clear(all.of[:all.n])
	all.n = 0
	s.parts.Put(all)
}

func (a *parts) add(record []byte, args xdr.Reader, sum uint64) {
	a.of[a.n] = Part{Args: args, xid: binary.BigEndian.Uint32(record), sum: sum, record: record}
	a.n++
}

// together runs calls together. It gives false when they are to be run one by one.
func (c *conn) together(ctx context.Context, p *program, all []Part) bool {
	call, s := &c.call, c.s
	c.makeRoom()
	at := c.w.Len()
	began := c.now
	if s.observe != nil && began.IsZero() {
		began = time.Now()
	}
	call.began, call.wait = began, c.onWait
	st := s.runAll(ctx, p, call, all, &c.w)
	c.waitsOver(0)
	switch st {
	case Success:
	case NoReply:
		c.w.Truncate(at)
		return false
	default:
		c.w.Truncate(at)
		for i := range all {
			p := &all[i]
			p.at = c.w.Len()
			c.w.Uint32(0)
			appendAccepted(&c.w, p.xid, st)
		}
	}
	end := c.w.Len()
	for i := len(all) - 1; i >= 0; i-- {
		p := &all[i]
		c.w.PutUint32(p.at, uint32(end-p.at-markSize)|lastFragment)
		end = p.at
	}
	if all[0].sum != 0 && st == Success {
		c.keepAll(all)
	}
	if s.observe != nil {
		c.now = time.Now()
		c.waitsOver(c.now.Sub(began))
		end, took := c.w.Len(), c.now.Sub(began)/time.Duration(len(all))
		for i := len(all) - 1; i >= 0; i-- {
			p := &all[i]
			s.observe(Event{
				Peer: call.Peer, Program: call.Program, Version: call.Version, Procedure: call.Procedure,
				Status: st, Result: p.Result, Subject: call.Subject, Duration: took,
				In: p.Args.Len(), Out: end - p.at - markSize,
			})
			end = p.at
		}
	}
	c.sendFull()
	return true
}

// runAll calls the program; NoReply: it did nothing.
func (s *Server) runAll(ctx context.Context, p *program, c *Call, all []Part, w *xdr.Writer) (st Status) {
	defer s.recovered(c, &st)
	if !p.joiner.ServeAll(ctx, c, all, w) {
		return NoReply
	}
	return Success
}

// recovered makes of a panic a call that failed.
func (s *Server) recovered(c *Call, st *Status) {
	if v := recover(); v != nil {
		*st = SystemErr
		s.log.Error("call panicked", "program", c.Program, "procedure", c.Procedure,
			"peer", c.Peer.String(), "panic", v, "stack", string(debug.Stack()))
	}
}
