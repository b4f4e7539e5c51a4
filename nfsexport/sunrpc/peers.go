package sunrpc

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// privileged ports are those below it: only root of the client's machine can
// call from one.
const privileged = 1024

// peer is one client address while it has connections.
type peer struct {
	conns []*conn
	calls *semaphore.Weighted
	bytes *semaphore.Weighted
	pipes int // that it has of the server's; guarded by these

	addr     netip.Addr
	stranger atomic.Bool  // nobody knew it when that was asked last
	asked    atomic.Int64 // then, by the server's clock
}

// purse is bytes that peers hold at once, in all.
type purse = semaphore.Weighted

// purseOf is where the bytes of a peer are taken from: those whom nobody knows have little
// between them, or a few addresses would make all others wait. One may become known.
func (s *Server) purseOf(p *peer) *purse {
	if !p.stranger.Load() {
		return s.bytes
	}
	now := s.clock.Load()
	if last := p.asked.Load(); last != now && p.asked.CompareAndSwap(last, now) && s.known(p.addr) {
		p.stranger.Store(false)
		return s.bytes
	}
	return s.little
}

// charge waits until n bytes of a purse may be held for the peer.
func (p *peer) charge(ctx context.Context, of *purse, n int) error {
	if err := p.bytes.Acquire(ctx, int64(n)); err != nil {
		return err
	}
	if err := of.Acquire(ctx, int64(n)); err != nil {
		p.bytes.Release(int64(n))
		return err
	}
	return nil
}

// tryCharge is charge without waiting.
func (p *peer) tryCharge(of *purse, n int) bool {
	if !p.bytes.TryAcquire(int64(n)) {
		return false
	}
	if !of.TryAcquire(int64(n)) {
		p.bytes.Release(int64(n))
		return false
	}
	return true
}

func (p *peer) uncharge(of *purse, n int) {
	p.bytes.Release(int64(n))
	of.Release(int64(n))
}

// peers are all connections, by address.
type peers struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*peer
	total  int
	closed bool // no more come in
	// inside counts those in, and all else that must end before the server has.
	inside sync.WaitGroup

	refused, evicted uint64
}

// enter admits a new connection, or says no. A connection in victim makes room
// for it and is to be cut. One that came from the same port to the same address has
// ended for its client, who sends again what it got no answer to, and then what comes
// after that: so nothing of the new one is run before nothing of the old one is, see
// begins.
//
// Without the right to take a place, any user of a board could hold all places
// of its address and lock its kernel out; with it for all, he could throw the
// kernel out. So an unprivileged port never takes a privileged one's place.
//
// When all places are taken, one whom somebody knows gets that of one whom nobody does.
func (ps *peers) enter(c *conn, l *Limits, known bool) (victim *conn, ok bool) {
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
		victim = ps.aStranger()
	}
	if ps.closed || !room && victim == nil {
		ps.refused++
		return nil, false
	}
	if p == nil {
		p = &peer{
			calls: semaphore.NewWeighted(int64(l.CallsPerPeer)),
			bytes: semaphore.NewWeighted(l.BytesPerPeer),
			addr:  addr,
		}
		p.stranger.Store(!known)
		ps.byAddr[addr] = p
	}
	p.conns = append(p.conns, c)
	ps.total++
	ps.inside.Add(1)
	c.who = p
	if old != nil {
		if c.before = old.before; c.before == nil { // else it has run nothing
			c.before = old.over
		}
	} else if victim != nil {
		ps.evicted++
	}
	if victim != nil {
		ps.remove(victim)
	}
	return victim, true
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
	c.before = nil
	return true
}

// old is the connection that c comes in the place of; nil: there is none. p may be nil.
func (p *peer) old(c *conn) *conn {
	if p == nil {
		return nil
	}
	for _, o := range p.conns {
		if o.addr == c.addr && o.local == c.local && c.addr.IsValid() {
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

// aStranger gives a connection of one whom nobody knows. May be nil.
func (ps *peers) aStranger() *conn {
	for _, p := range ps.byAddr {
		if p.stranger.Load() {
			return p.conns[0]
		}
	}
	return nil
}

// leave takes a connection out, if it still is in.
func (ps *peers) leave(c *conn) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.remove(c)
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
