package sunrpc

import (
	"context"
	"time"

	"rubus/nfsexport/xdr"
)

// program is a Program with what never changes about it.
type program struct {
	Program
	joiner            Joiner // Program, or nil
	number, low, high uint32
}

// find gives the program that c is for.
func (s *Server) find(c *Call) (*program, Status) {
	for i := range s.programs {
		p := &s.programs[i]
		if p.number != c.Program {
			continue
		}
		if c.Version < p.low || c.Version > p.high {
			return p, ProgMismatch
		}
		return p, Success
	}
	return nil, ProgUnavail
}

// refuse answers a call that gets to no program.
func (s *Server) refuse(c *Call, v verdict, p *program, st Status, w *xdr.Writer) {
	switch v {
	case wrongRPC:
		st = RPCMismatch
		appendRPCMismatch(w, c.XID)
	case badCred:
		st = AuthBad
		appendAuthError(w, c.XID, authBadCred)
	case badVerf:
		st = AuthBad
		appendAuthError(w, c.XID, authBadVerf)
	default:
		appendAccepted(w, c.XID, st)
		if st == ProgMismatch {
			w.Uint32(p.low)
			w.Uint32(p.high)
		}
	}
	if s.observe != nil {
		s.observe(Event{
			Peer: c.Peer, Program: c.Program, Version: c.Version, Procedure: c.Procedure,
			Status: st, In: c.Args.Len(), Out: w.Len(),
		})
	}
}

// answer runs a call and appends its reply. It gives false when nothing is to
// be sent; then nothing is appended.
func (s *Server) answer(ctx context.Context, p *program, c *Call, once bool, w *xdr.Writer) bool {
	if s.observe == nil {
		st, _ := s.reply(ctx, p, c, once, w)
		return st != NoReply
	}
	if c.began.IsZero() {
		c.began = time.Now()
	}
	in, at := c.Args.Len()+c.more, w.Len()
	st, replayed := s.reply(ctx, p, c, once, w)
	c.ended = time.Now()
	s.observe(Event{
		Peer: c.Peer, Program: c.Program, Version: c.Version, Procedure: c.Procedure,
		Status: st, Result: c.Result, Subject: c.Subject, Duration: c.ended.Sub(c.began),
		In: in, Out: w.Len() - at + c.tail.size(), Replayed: replayed,
	})
	return st != NoReply
}

// reply is answer without the telling.
func (s *Server) reply(ctx context.Context, p *program, c *Call, once bool, w *xdr.Writer) (st Status, replayed bool) {
	at, slot := w.Len(), noSlot
	if once && s.cache != nil {
		var seen sight
		switch slot, seen = s.cache.begin(c, w); seen {
		case replay:
			return Success, true
		case busy:
			return NoReply, false
		}
	}
	appendAccepted(w, c.XID, Success)
	st = s.run(ctx, p, c, w)
	if st != Success {
		w.Truncate(at)
		c.Unsplice()
		switch st {
		case NoReply:
		case AuthTooWeak:
			appendAuthError(w, c.XID, authTooWeak)
		default:
			appendAccepted(w, c.XID, st)
		}
	}
	if slot != noSlot {
		switch {
		case st == Success && !c.Forget:
			s.cache.finish(slot, w.Buf[at:])
		case st == Success && c.Begun != 0:
			s.cache.adjourn(slot)
		case st == SystemErr || st == NoReply || c.Begun != 0:
			s.cache.abandon(slot)
		default:
			s.cache.forget(slot)
		}
	}
	return st, false
}

// run calls the program. A defect in it costs the call, not the daemon.
func (s *Server) run(ctx context.Context, p *program, c *Call, w *xdr.Writer) (st Status) {
	defer s.recovered(c, &st)
	return p.Serve(ctx, c, w)
}
