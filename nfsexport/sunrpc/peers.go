package sunrpc

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// privileged ports are those below it: only root of the client's machine can
// call from one.
const privileged = 1024

// peer is one client address while it has connections.
type peer struct {
	conns []*conn
	own   means // while somebody knows it
	alms  means // while nobody does
	pipes int   // that it has of the server's; guarded by these

	addr     netip.Addr
	stranger atomic.Bool  // nobody knew it when that was asked last
	asked    atomic.Int64 // then, by the server's clock
}

// meansOf is where a peer takes from: those whom nobody knows have little between them, or a
// few addresses would make all others wait. One may become known.
func (s *Server) meansOf(p *peer) *means {
	if s.isStranger(p) {
		return &p.alms
	}
	return &p.own
}

// isStranger says whether nobody knows a peer. Of one that was a stranger that is asked anew,
// once a tick of the clock.
func (s *Server) isStranger(p *peer) bool {
	if !p.stranger.Load() {
		return false
	}
	now := s.clock.Load()
	if last := p.asked.Load(); last != now && p.asked.CompareAndSwap(last, now) && s.known(p.addr) {
		p.stranger.Store(false)
		return false
	}
	return true
}

// ends are those of a connection.
type ends struct{ addr, local netip.AddrPort }

// peers are all connections, by address.
type peers struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*peer
	// running are the connections of which calls may run, also those that were cut, by
	// their ends.
	running map[ends]*conn
	total   int
	closed  bool // no more come in
	// inside counts those in, and all else that must end before the server has.
	inside sync.WaitGroup

	came, refused, evicted uint64
}

// admit lets a new connection in, or says no. A connection in victim makes room
// for it and is to be cut. One that came from the same port to the same address has
// ended for its client, who sends again what it got no answer to, and then what comes
// after that: so nothing of the new one is run before nothing of the old one is, see
// begins.
//
// Without the right to take a place, any user of a board could hold all places
// of its address and lock its kernel out; with it for all, he could throw the
// kernel out. So an unprivileged port never takes a privileged one's place.
//
// When all places are taken, one whom somebody knows gets that of one whom nobody does, or of
// the address with most, when that has two more: so nobody loses what is no more than his share.
func (s *Server) admit(c *conn) (victim *conn, ok bool) {
	ps, l, known := &s.peers, &s.limits, s.known(c.addr.Addr())
	ps.mu.Lock()
	defer ps.mu.Unlock()
	addr := c.addr.Addr()
	p := ps.byAddr[addr]
	old, room := p.old(c), ps.total < l.Conns
	switch {
	case old != nil:
		victim = old
	case p != nil && len(p.conns) >= l.ConnsPerPeer:
		victim, room = p.victim(c.addr.Port() < privileged), false
	case !room && known:
		if victim = ps.victim(p, s.isStranger); victim == nil && l.Brief {
			victim = ps.oldest()
		}
	}
	if ps.closed || !room && victim == nil {
		ps.refused++
		return nil, false
	}
	if p == nil {
		p = &peer{own: s.all.means(), alms: s.little.means(), addr: addr}
		p.stranger.Store(true)
		ps.byAddr[addr] = p
	}
	if known {
		p.stranger.Store(false)
	}
	p.conns = append(p.conns, c)
	ps.total++
	ps.came++
	c.came = ps.came
	ps.inside.Add(1)
	c.who = p
	if runs := ps.running[c.ends]; runs != nil {
		c.before = runs.over
	} else {
		ps.runs(c)
	}
	if old == nil && victim != nil {
		ps.evicted++
	}
	if victim != nil {
		ps.remove(victim)
	}
	return victim, true
}

// runs notes that calls of a connection may be run from now on. ps.mu is held.
func (ps *peers) runs(c *conn) {
	if c.addr.IsValid() {
		ps.running[c.ends] = c
	}
}

// begins waits until calls of a connection may be run; false: they may not any more.
func (ps *peers) begins(ctx context.Context, c *conn) bool {
	if c.before == nil {
		return true
	}
	select {
	case <-c.before:
	case <-ctx.Done():
		return false
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !slices.Contains(c.who.conns, c) {
		return false // there is a newer one, which did not wait for this
	}
	ps.runs(c)
	return true
}

// old is the connection that c comes in the place of; nil: there is none. p may be nil.
func (p *peer) old(c *conn) *conn {
	if p == nil {
		return nil
	}
	for _, o := range p.conns {
		if o.ends == c.ends && c.addr.IsValid() {
			return o
		}
	}
	return nil
}

// victim is the connection to cut for a new one: one from an unprivileged port
// before others, then the one silent for longest. May be nil.
func (p *peer) victim(forPrivileged bool) *conn {
	var v *conn
	for _, c := range p.conns {
		low := c.addr.Port() < privileged
		if low && !forPrivileged {
			continue
		}
		if v == nil {
			v = c
			continue
		}
		vLow := v.addr.Port() < privileged
		if vLow && !low || vLow == low && c.lastRead.Load() < v.lastRead.Load() {
			v = c
		}
	}
	return v
}

// victim is a connection to cut for one of p, which may be nil, when all places are taken: of
// one whom nobody knows, or else of who has most, if he has not fewer than p even then. May be nil.
func (ps *peers) victim(p *peer, isStranger func(*peer) bool) *conn {
	var most *peer
	for _, o := range ps.byAddr {
		if isStranger(o) {
			return o.conns[0]
		}
		if most == nil || len(o.conns) > len(most.conns) {
			most = o
		}
	}
	has := 0
	if p != nil {
		has = len(p.conns)
	}
	if most == nil || len(most.conns) < has+2 {
		return nil
	}
	return most.victim(true)
}

// oldest is the connection that came first, of those of which no call runs. May be nil.
func (ps *peers) oldest() *conn {
	var first *conn
	for _, p := range ps.byAddr {
		for _, c := range p.conns {
			if (first == nil || c.came < first.came) && c.idle() {
				first = c
			}
		}
	}
	return first
}

// leave takes a connection out, if it still is in. None of its calls runs any more.
func (ps *peers) leave(c *conn) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.remove(c)
	if ps.running[c.ends] == c {
		delete(ps.running, c.ends)
	}
}

// remove is leave with ps.mu held.
func (ps *peers) remove(c *conn) {
	i := slices.Index(c.who.conns, c)
	if i < 0 {
		return
	}
	c.who.conns = slices.Delete(c.who.conns, i, i+1)
	ps.total--
	if len(c.who.conns) == 0 {
		delete(ps.byAddr, c.addr.Addr())
	}
}

// list gives all connections.
func (ps *peers) list() []*conn {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	all := make([]*conn, 0, ps.total)
	for _, p := range ps.byAddr {
		all = append(all, p.conns...)
	}
	return all
}

// hold makes the server wait for inside.Done, unless it is closed.
func (ps *peers) hold() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.closed {
		ps.inside.Add(1)
	}
	return !ps.closed
}

// close lets nobody in any more.
func (ps *peers) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closed = true
}
