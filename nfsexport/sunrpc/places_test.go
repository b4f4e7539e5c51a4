package sunrpc

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// conns are how many connections each of so many addresses 127.0.0.x has.
func (s *Server) conns(peers int) []int {
	n := make([]int, peers)
	for _, c := range s.peers.list() {
		n[c.addr.Addr().As4()[3]-1]++
	}
	return n
}

// TestConnsShares: when all places are taken, who has fewer than others gets one of theirs, until
// all have the same.
func TestConnsShares(t *testing.T) {
	const most = 8
	s, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Conns: most}})
	from := func(i int, low bool) *client {
		c := dialFrom(t, addr, fmt.Sprintf("127.0.0.%d", i), low)
		return c
	}
	user := from(1, false)
	user.works()
	for range 5 {
		from(1, true).works()
	}
	one := from(2, false)
	one.works()
	from(3, false).works()
	is := func(want ...int) {
		t.Helper()
		if got := s.conns(len(want)); !slices.Equal(got, want) {
			t.Errorf("the addresses have %d connections, want %d", got, want)
		}
	}
	is(6, 1, 1, 0)
	from(4, false).works()
	user.wantClosed() // that of no kernel goes first
	is(5, 1, 1, 1)
	for range 2 {
		from(4, false).works()
	}
	is(3, 1, 1, 3)
	from(2, false).works()
	from(3, false).works()
	is(2, 2, 2, 2)
	for i := range 4 {
		from(1+i, true).wantClosed()
	}
	is(2, 2, 2, 2)
	one.works()
	from(5, false).works()
	from(5, true).wantClosed() // nobody has two more
	if st := s.Stats(); st.Conns != most || st.Refused != 5 || st.Evicted != 6 {
		t.Errorf("%+v", st)
	}
}

// TestBrief: where clients come for a moment, whoever holds all places, with as many addresses,
// keeps nobody out; and nobody loses his who has a call under way.
func TestBrief(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}, Limits: Limits{Conns: 3, Brief: true}})
	first := dialFrom(t, addr, "127.0.0.1", false)
	first.send(framed(message(1, procWaits))...)
	<-f.entered
	half := dialFrom(t, addr, "127.0.0.2", false)
	half.send(framed(message(1, procNull))[:20]...)
	idle := dialFrom(t, addr, "127.0.0.3", false)
	idle.works()
	four := dialFrom(t, addr, "127.0.0.4", true)
	four.works()
	half.wantClosed()
	five := dialFrom(t, addr, "127.0.0.5", false)
	five.works()
	idle.wantClosed()
	four.works()
	five.works()
	for _, c := range []*client{four, five} {
		c.send(framed(message(1, procWaits))...)
		<-f.entered
	}
	dialFrom(t, addr, "127.0.0.6", true).wantClosed()
	close(f.release)
	for _, c := range []*client{first, four, five} {
		words(t, c.reply(), 1, 1, ok, 0, 0, 0, 7)
	}
	if st := s.Stats(); st.Conns != 3 || st.Evicted != 2 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

// TestDatagramShares: one address has few long calls that came by datagram, and those are in
// nobody's way.
func TestDatagramShares(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}})
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	from := func(i int) *net.UDPConn {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, byte(i/200), byte(1+i%200))}, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	// ask sends long calls, and one that is answered when they have been looked at.
	ask := func(c *net.UDPConn, calls uint32) {
		t.Helper()
		for i := range calls {
			if _, err := c.Write(message(i, procSlow)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Write(message(99, procNull)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || n != 24 || b[3] != 99 {
			t.Fatalf("%d bytes, xid %d, %v", n, b[3], err)
		}
	}
	run := 0
	for i := range 40 {
		ask(from(i), 2*datagramsEach)
	}
	for ; s.dgrams.all.left() < int64(datagramCalls-run); run++ {
		<-f.entered
	}
	if run < 40 || run >= datagramCalls {
		t.Errorf("%d calls of 40 addresses run", run)
	}
	board := from(1000)
	ask(board, 1)
	<-f.entered // it runs
	close(f.release)
	b := make([]byte, 100)
	if n, err := board.Read(b); err != nil || n != 28 {
		t.Errorf("%d bytes, %v", n, err)
	}
	until(t, "all have ended", func() bool { return s.dgrams.all.left() == datagramCalls })
	s.dgrams.mu.Lock()
	defer s.dgrams.mu.Unlock()
	if len(s.dgrams.of) != 0 {
		t.Errorf("%d addresses are remembered", len(s.dgrams.of))
	}
}

// TestCacheStrangers: whoever has many addresses that nobody knows leaves a board its slots.
func TestCacheStrangers(t *testing.T) {
	c := openCache(t, "")
	board, other := cacheCall(700, 1, "rename"), cacheCall(700, 0, "create")
	for i := range uint32(cacheWays / 2) {
		board.XID = i
		c.finish(see(t, c, board, fresh, ""), []byte("renamed"))
	}
	other.Peer = board.Peer
	other.who = new(peer)
	other.who.stranger.Store(true)
	for range 2 * cacheWays {
		other.Peer = neighbour(other.Peer)
		c.finish(see(t, c, other, fresh, ""), []byte("refused"))
		see(t, c, other, replay, "refused")
	}
	for i := range uint32(cacheWays / 2) {
		board.XID = i
		see(t, c, board, replay, "renamed")
	}
}
