package sunrpc

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// sweepUntil keeps the clock and cuts connections that wait for too long,
// until ctx ends.
func (s *Server) sweepUntil(ctx context.Context) {
	t := time.NewTicker(s.limits.tick())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := max(1, time.Since(s.started).Nanoseconds())
			s.clock.Store(now)
			s.sweep(now)
			s.relieve(now, &s.all)
			s.relieve(now, &s.little)
			s.pool.trim()
		}
	}
}

// sweep cuts the connections that are late at the time now of the clock.
func (s *Server) sweep(now int64) {
	l := &s.limits
	for _, c := range s.peers.list() {
		late := ""
		partial, write := c.partialSince.Load(), c.writeSince.Load()
		switch {
		case write != 0 && now-write > int64(l.Write):
			late = "does not read its replies"
		case partial != 0 && now-partial > int64(l.Receive):
			late = "does not complete its record"
		case partial == 0 && now-c.lastRead.Load() > int64(l.Idle) && c.idle():
			late = "is idle"
		default:
			continue
		}
		s.log.Debug("connection cut", "peer", c.addr.String(), "why", late)
		c.cut()
	}
}

// relieve cuts connections that hold memory while peers that hold nothing wait for it, at the
// time now of the clock: those that have been at one record, or one batch of replies, for a
// whole tick at least, the longest first, until there is enough, and something for who comes
// next.
func (s *Server) relieve(now int64, of *purses) {
	missing := of.bytes.missing()
	if missing <= 0 {
		return
	}
	missing += of.bytes.all / 8
	type stalled struct {
		c     *conn
		since int64
	}
	var all []stalled
	for _, c := range s.peers.list() {
		since := c.writeSince.Load()
		if partial := c.partialSince.Load(); since == 0 || partial != 0 && partial < since {
			since = partial
		}
		if since != 0 && now-since >= 2*int64(s.limits.tick()) && s.holdsOf(c, of) {
			all = append(all, stalled{c, since})
		}
	}
	slices.SortFunc(all, func(a, b stalled) int { return cmp.Compare(a.since, b.since) })
	n, peers := 0, map[*peer]bool{}
	for _, v := range all {
		if missing <= 0 {
			break
		}
		missing -= v.c.charged.Load()
		n, peers[v.c.who] = n+1, true
		s.log.Debug("connection cut", "peer", v.c.addr.String(), "why", "holds memory that others wait for")
		v.c.cut()
	}
	if n > 0 {
		s.log.Warn("connections cut that hold memory others wait for, and do not go on", "connections", n, "peers", len(peers))
	}
}

// holdsOf says whether a connection holds memory of what some peers share.
func (s *Server) holdsOf(c *conn, of *purses) bool {
	if c.charged.Load() == 0 {
		return false
	}
	if of == &s.little {
		return c.who.alms.bytes.holds() > 0
	}
	return c.who.own.bytes.holds() > 0
}
