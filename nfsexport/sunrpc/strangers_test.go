package sunrpc

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestStrangers: addresses that nobody knows, many of them, begin large records and do not
// end them, and take all connections. Those who are known are served as ever, and those who
// become known.
func TestStrangers(t *testing.T) {
	const crowd = 10
	var late atomic.Bool // the second is known, too
	known := func(a netip.Addr) bool {
		return a == netip.MustParseAddr("127.0.0.1") || late.Load() && a == netip.MustParseAddr("127.0.0.2")
	}
	s, addr := start(t, Config{
		Programs: []Program{newFake()}, Known: known,
		Limits: Limits{Bytes: 8 << 20, Conns: crowd + 3, Receive: time.Hour},
	})
	stranger := dialFrom(t, addr, "127.0.0.2", true)
	stranger.works()
	for i := range crowd {
		c := dialFrom(t, addr, fmt.Sprintf("127.0.1.%d", i+1), false)
		c.send(append([]byte{0x80, 0x10, 0, 0}, make([]byte, mediumBuffer)...)...)
	}
	// All that strangers may hold is held.
	for s.little.bytes.missing() == 0 {
		runtime.Gosched()
	}
	large := func(c *client) {
		t.Helper()
		c.send(framed(message(1, procBig, 128<<10))...)
		if r := c.reply(); r.Len() != 24+128<<10 {
			t.Errorf("a reply of %d bytes", r.Len())
		}
	}
	board := dialFrom(t, addr, "127.0.0.1", true)
	large(board)
	for _, c := range s.peers.list() {
		if p := s.pipes.get(c.who); (p != nil) != known(c.addr.Addr()) {
			t.Errorf("%v has a pipe: %v", c.addr, p != nil)
		} else {
			s.pipes.put(p)
		}
	}
	late.Store(true)
	s.clock.Add(1)
	large(stranger)
	// No place is left: that of a stranger is taken, by who is known.
	large(dialFrom(t, addr, "127.0.0.1", true))
	large(dialFrom(t, addr, "127.0.0.1", true))
	dialFrom(t, addr, "127.0.2.1", true).wantClosed()
	if st := s.Stats(); st.Conns != crowd+3 || st.Evicted != 1 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
	large(board)
	large(stranger)
}

// TestStrangerBecomesKnown: a board that nobody knew when it connected, as one that has
// another address by then, is known as soon as somebody knows it.
func TestStrangerBecomesKnown(t *testing.T) {
	for name, calls := range map[string]func(t *testing.T, addr string, board *client){
		"it makes a call": func(_ *testing.T, _ string, board *client) {
			board.send(framed(message(1, procBig, 4))...)
			board.reply()
		},
		"it connects once more": func(t *testing.T, addr string, _ *client) { dialFrom(t, addr, "127.0.0.2", true).works() },
		"its place is wanted": func(t *testing.T, addr string, _ *client) {
			dialFrom(t, addr, "127.0.0.3", true).works()
			dialFrom(t, addr, "127.0.0.4", true).wantClosed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var known atomic.Bool
			s, addr := start(t, Config{
				Programs: []Program{newFake()}, Known: func(netip.Addr) bool { return known.Load() }, Limits: Limits{Conns: 2},
			})
			board := dialFrom(t, addr, "127.0.0.2", true)
			board.works()
			known.Store(true)
			s.clock.Add(1)
			calls(t, addr, board)
			board.works()
			for _, c := range s.peers.list() {
				p := s.pipes.get(c.who)
				if p == nil {
					t.Errorf("%v has no pipe", c.addr)
				}
				s.pipes.put(p)
			}
		})
	}
}
