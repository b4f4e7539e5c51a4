package sunrpc

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// left is what nobody holds.
func (p *purse) left() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

// wanted is how many wait for some.
func (p *purse) wanted() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.waiting {
		n += len(h.want)
	}
	return n
}

// until waits for what the server does by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("still not so: ", what)
		}
	}
}

// half begins a record of so many bytes.
func half(size uint32) func(*client) {
	return func(c *client) {
		c.send(append(binary.BigEndian.AppendUint32(nil, size|lastFragment), make([]byte, mediumBuffer)...)...)
	}
}

// unread asks for so many replies of so many bytes, and reads none.
func unread(calls, size uint32) func(*client) {
	return func(c *client) {
		_ = c.nc.(*net.TCPConn).SetReadBuffer(4096)
		for i := range calls {
			c.send(framed(message(i, procBig, size))...)
		}
	}
}

// large does what a board does with large calls, some of each size.
func (c *client) large() {
	c.t.Helper()
	for _, size := range []int{4 << 10, 60 << 10, 128 << 10} {
		for xid := range uint32(3) {
			_ = c.nc.SetDeadline(time.Now().Add(time.Minute))
			c.send(framed(message(xid, procBig, uint32(size)))...)
			if r := c.reply(); r.Len() != 24+size {
				c.t.Fatalf("a reply of %d bytes to a READ of %d", r.Len(), size)
			}
			c.send(framed(append(message(xid, procEcho), make([]byte, size)...))...)
			if r := c.reply(); r.Len() != 24+size {
				c.t.Fatalf("a reply of %d bytes to a WRITE of %d", r.Len(), size)
			}
		}
	}
}

// crowdOf is so many peers, each with so many connections that do something.
func crowdOf(t *testing.T, addr string, peers, conns int, do func(*client)) {
	for i := range peers {
		for range conns {
			do(dialFrom(t, addr, fmt.Sprintf("127.0.1.%d", i+1), false))
		}
	}
}

// TestCrowd: peers that somebody knows hold all the memory that they get, and nothing ends
// that. Who comes then, and who was there before, reads and writes at any size meanwhile.
func TestCrowd(t *testing.T) {
	const conns = 4
	const longest, all = 128<<10 + 8<<10, 128 * (128<<10 + 8<<10)
	for name, do := range map[string]func(*client){
		"large records that do not end":       half(128 << 10),
		"large replies that nobody reads":     unread(60, 128<<10),
		"replies of 60 KiB that nobody reads": unread(120, 60<<10),
	} {
		for _, peers := range []int{16, 64} {
			t.Run(fmt.Sprintf("%d peers, %s", peers, name), func(t *testing.T) {
				s, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{
					Record: longest, Bytes: all, Idle: time.Hour, Receive: time.Hour, Write: time.Hour,
				}})
				old := dialFrom(t, addr, "127.0.0.1", true)
				old.large()
				crowdOf(t, addr, peers, conns, do)
				until(t, "the crowd wants more than it gets", func() bool { return s.all.bytes.wanted() >= peers })
				held := all - s.all.bytes.left()
				board := dialFrom(t, addr, "127.0.0.2", true)
				for range 3 {
					board.large()
					old.large()
				}
				if n := all - s.all.bytes.left(); n < held/2 || n > all {
					t.Errorf("%d bytes are held, were %d of %d", n, held, all)
				}
				if n := s.all.calls.left(); n != int64(s.limits.Calls) {
					t.Errorf("who waits for memory keeps calls from running: %d of %d are left", n, s.limits.Calls)
				}
				if n := s.Stats().Conns; n != peers*conns+2 {
					t.Errorf("%d connections are left of %d", n, peers*conns+2)
				}
			})
		}
	}
}

// TestCrowdTakesAll: of more peers than there are shares some have none. Then those who do not
// go on lose what they hold, those who wait for longest first, and no more than is needed.
func TestCrowdTakesAll(t *testing.T) {
	const all, peers = 8, 12
	for name, do := range map[string]func(*client){"records": half(1 << 20), "replies": unread(8, 1<<20)} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Programs: []Program{newFake()}, Limits: Limits{Bytes: all<<20 + all*8<<10}})
			s.sweeping.Store(true) // the clock is the test's
			addr := s.startFor(t)
			crowdOf(t, addr, peers, 1, do)
			until(t, "all memory is taken", func() bool { return s.all.bytes.wanted() == peers-all })
			board := dialFrom(t, addr, "127.0.0.1", true)
			board.send(framed(message(1, procBig, 1<<20))...)
			until(t, "the board waits", func() bool { return s.all.bytes.wanted() == peers-all+1 })
			now := s.clock.Load() + 2*int64(s.limits.tick())
			s.relieve(now-1, &s.all)
			s.relieve(now, &s.little)
			if n := s.Stats().Conns; n != peers+1 {
				t.Errorf("%d connections are left of %d", n, peers+1)
			}
			// Those of the crowd that waited before the board get theirs first.
			s.relieve(now, &s.all)
			if r := board.reply(); r.Len() != 24+1<<20 {
				t.Errorf("a reply of %d bytes", r.Len())
			}
			// As many are cut as waited, and one for who comes next.
			left := peers + 1 - (peers - all + 1) - 1
			until(t, "they are cut", func() bool { return s.Stats().Conns == left })
			s.relieve(now, &s.all)
			if n := s.Stats().Conns; n != left {
				t.Errorf("%d connections are left of %d", n, left)
			}
		})
	}
}

// TestSmallRepliesUnread: small replies that nobody reads hold little, though each has a buffer
// with room for many.
func TestSmallRepliesUnread(t *testing.T) {
	var answered atomic.Int64
	s, addr := start(t, Config{Programs: []Program{newFake()}, Observe: func(Event) { answered.Add(1) }})
	c := dial(t, addr)
	c.works()
	const calls = 100
	conn := s.peers.list()[0]
	held := func() (n, loose int) {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		for i := range conn.queue {
			n += len(conn.queue[i].b.b)
		}
		return n, conn.loose
	}
	_ = conn.nc.(*net.TCPConn).SetWriteBuffer(4096)
	unread(1, 128<<10)(c)
	until(t, "it is at the write", func() bool { return conn.writeSince.Load() != 0 && answered.Load() == 2 })
	for i := range int64(calls) {
		c.send(framed(message(uint32(i), procNull))...)
		until(t, "it is answered, or waits", func() bool {
			_, loose := held()
			return answered.Load() == 3+i || loose > looseQueue
		})
	}
	if n, _ := held(); n > 4*mediumBuffer {
		t.Errorf("%d bytes are held, with %d calls answered", n, answered.Load())
	}
	for range 1 + calls {
		c.reply()
	}
}

// TestCrowdCalls: peers have as many calls run as they may. Who comes then has some run, too.
func TestCrowdCalls(t *testing.T) {
	for name, known := range map[string]bool{"whom somebody knows": true, "whom nobody knows": false} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			board := netip.MustParseAddr("127.0.0.1")
			s, addr := start(t, Config{Programs: []Program{f}, Limits: Limits{Calls: 64, CallsPerPeer: 16}, Known: func(a netip.Addr) bool {
				return known || a == board
			}})
			defer close(f.release)
			of := &s.all
			if !known {
				of = &s.little
			}
			const peers = 6
			crowdOf(t, addr, peers, 2, func(c *client) {
				for i := range uint32(16) {
					c.send(framed(message(i, procSlow))...)
				}
			})
			until(t, "all want more", func() bool { return of.calls.wanted() == 2*peers })
			ran := len(f.entered)
			c := dialFrom(t, addr, board.String(), true)
			c.send(framed(message(1, procSlow))...)
			until(t, "the board's call runs", func() bool { return len(f.entered) > ran })
			if n := of.calls.wanted(); n != 2*peers {
				t.Errorf("%d wait still of %d", n, 2*peers)
			}
		})
	}
}
