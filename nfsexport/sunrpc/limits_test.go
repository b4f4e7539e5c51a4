package sunrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// dialFrom connects from a loopback address, and from a privileged port if low.
func dialFrom(t *testing.T, addr, from string, low bool) *client {
	t.Helper()
	host := net.TCPAddr{IP: net.ParseIP(from)}
	d := net.Dialer{LocalAddr: &host}
	for port := 1023; ; port-- {
		if low {
			host.Port = port
		}
		nc, err := d.Dial("tcp", addr)
		if err != nil && low && port > 900 {
			continue // in use
		}
		if err != nil {
			t.Fatalf("connecting from %v (a port below 1024 needs CAP_NET_BIND_SERVICE): %v", &host, err)
		}
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { _ = nc.Close() })
		return &client{t, nc}
	}
}

// works makes a call and wants its reply.
func (c *client) works() {
	c.t.Helper()
	c.send(framed(message(1, procNull))...)
	words(c.t, c.reply(), 1, 1, ok, 0, 0, 0)
}

// TestConnsPerPeer: a newcomer takes the place of the connection silent for
// longest, but an unprivileged one never that of a privileged one.
func TestConnsPerPeer(t *testing.T) {
	s, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{ConnsPerPeer: 3}})
	kernel := dialFrom(t, addr, "127.0.0.1", true)
	kernel.works()
	var users []*client
	for range 8 {
		u := dialFrom(t, addr, "127.0.0.1", false)
		u.works()
		users = append(users, u)
	}
	kernel.works()
	users[0].wantClosed()
	k2 := dialFrom(t, addr, "127.0.0.1", true)
	k2.works()
	k3 := dialFrom(t, addr, "127.0.0.1", true)
	k3.works()
	kernel.works()
	users[7].wantClosed()
	// All places are privileged ones' now.
	dialFrom(t, addr, "127.0.0.1", false).wantClosed()
	k4 := dialFrom(t, addr, "127.0.0.1", true)
	k4.works()
	// Another address has places of its own.
	dialFrom(t, addr, "127.0.0.2", false).works()
	if st := s.Stats(); st.Conns != 4 || st.Refused != 1 || st.Evicted != 9 {
		t.Errorf("%+v", st)
	}
}

func TestConnsInAll(t *testing.T) {
	s, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Conns: 2}})
	a := dialFrom(t, addr, "127.0.0.1", false)
	a.works()
	dialFrom(t, addr, "127.0.0.2", false).works()
	dialFrom(t, addr, "127.0.0.3", false).wantClosed()
	a.works()
	if st := s.Stats(); st.Conns != 2 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

// TestIdleFlood opens many idle connections from many addresses; a good client
// is served, and they hold no buffers.
func TestIdleFlood(t *testing.T) {
	s, addr := start(t, Config{Programs: []Program{newFake()}})
	const n = 1500
	for i := range n {
		from := netip.AddrFrom4([4]byte{127, 1, byte(i / 200), byte(1 + i%200)})
		c := dialFrom(t, addr, from.String(), false)
		if i%3 == 0 {
			c.send(framed(message(1, procNull))[:i%40]...) // half a call
		}
	}
	dialFrom(t, addr, "127.0.0.1", true).works()
	if st := s.Stats(); st.Conns != n+1 {
		t.Errorf("%+v", st)
	}
}

func TestTimeouts(t *testing.T) {
	short := 40 * time.Millisecond
	never := time.Hour
	t.Run("idle", func(t *testing.T) {
		_, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Idle: short, Receive: never, Write: never}})
		dial(t, addr).wantClosed()
	})
	t.Run("not idle while a call runs", func(t *testing.T) {
		f := newFake()
		s, addr := start(t, Config{Programs: []Program{f}, Limits: Limits{Idle: never}})
		c := dial(t, addr)
		c.send(framed(message(1, procSlow))...)
		<-f.entered
		s.sweep(int64(3 * never))
		close(f.release)
		words(t, c.reply(), 1, 1, ok, 0, 0, 0, 7)
	})
	for name, part := range map[string]int{"mark": 3, "header": 20, "arguments": 43} {
		t.Run("half a record: "+name, func(t *testing.T) {
			_, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Idle: never, Receive: short, Write: never}})
			c := dial(t, addr)
			c.works()
			c.send(framed(message(1, procEcho, 1))[:part]...)
			c.wantClosed()
		})
	}
	t.Run("half a large record", func(t *testing.T) {
		_, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Idle: never, Receive: short, Write: never}})
		c := dial(t, addr)
		_, _ = c.nc.Write(framed(make([]byte, 1<<20))[:500000]) // may be cut meanwhile
		c.wantClosed()
	})
	t.Run("slow reader", func(t *testing.T) {
		s, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Idle: never, Receive: never, Write: short}})
		c := dial(t, addr)
		// More than all buffers of the kernel hold. The server stops reading,
		// and then cuts.
		for i := uint32(0); ; i++ {
			if _, err := c.nc.Write(framed(message(i, procBig, 1<<20))); err != nil {
				break
			}
			if s.Stats().Conns == 0 {
				break
			}
		}
		if _, err := io.Copy(io.Discard, c.nc); err == nil {
			t.Log("closed in good order")
		}
	})
}

// TestInFlight: a client that sends more long calls than it may is not read
// from, others are served, and in the end all calls are answered.
func TestInFlight(t *testing.T) {
	for _, tc := range []struct {
		name  string
		l     Limits
		most  int
		conns int
	}{
		{"per connection", Limits{CallsPerConn: 3}, 3, 1},
		{"per peer", Limits{CallsPerPeer: 3}, 3, 2},
		{"in all", Limits{Calls: 15}, 3, 2}, // a fifth of them
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			_, addr := start(t, Config{Programs: []Program{f}, Limits: tc.l})
			const calls = 20
			var clients []*client
			for range tc.conns {
				c := dial(t, addr)
				for i := range uint32(calls) {
					c.send(framed(message(i, procSlow))...)
				}
				clients = append(clients, c)
			}
			for range tc.most {
				<-f.entered
			}
			// Cheap calls of others go on.
			dialFrom(t, addr, "127.0.0.9", false).works()
			if n := len(f.entered); n != 0 {
				t.Errorf("%d calls too many", n)
			}
			close(f.release)
			for _, c := range clients {
				seen := map[uint32]bool{}
				for range calls {
					r := c.reply()
					seen[r.Uint32()] = true
				}
				if len(seen) != calls {
					t.Errorf("%d of %d calls answered", len(seen), calls)
				}
			}
		})
	}
}

// TestBytes: large records and replies share what a peer may hold; all are
// answered in turn, also when a record and its reply are both large.
func TestBytes(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}, Limits: Limits{BytesPerPeer: 1, Bytes: 1}})
	c := dial(t, addr)
	go func() {
		for i := range uint32(20) {
			_, _ = c.nc.Write(framed(message(i, procBig, 1<<20)))
			_, _ = c.nc.Write(framed(message(i, procEcho, make([]uint32, 1<<18)...)))
		}
	}()
	for range 40 {
		if r := c.reply(); r.Len() != 24+1<<20 {
			t.Fatalf("%d bytes", r.Len())
		}
	}
	both := dial(t, addr)
	both.send(framed(message(1, procBig, append([]uint32{1 << 20}, make([]uint32, 1<<18-1)...)...))...)
	both.wantClosed()
	if n := int64(s.pool.largeSize) - s.all.bytes.left(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}

// TestSlowReader: who asks and does not read is not asked for more, whatever the
// size of the replies, and gets them all when he reads.
func TestSlowReader(t *testing.T) {
	const size, queue, most = 60000, 1 << 20, 8
	var answered atomic.Int64
	s, addr := start(t, Config{
		Programs: []Program{newFake()}, Observe: func(Event) { answered.Add(1) },
		Limits: Limits{Queue: queue, CallsPerConn: most},
	})
	const calls = 1000 // more than the kernel's buffers hold
	c := dial(t, addr)
	c.works()
	for i := range uint32(calls) {
		c.send(framed(message(i, procBig, size))...)
	}
	held := func() (queued, running, jobs int) {
		for _, c := range s.peers.list() {
			c.mu.Lock()
			queued, running, jobs = c.queued, c.running, c.jobs
			c.mu.Unlock()
		}
		return queued, running, jobs
	}
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		queued, running, jobs := held()
		if limit := queue + 2*mediumBuffer; queued > limit {
			t.Fatalf("%d bytes wait for one who does not read, more than %d", queued, limit)
		}
		if queued+running > queue && jobs <= 1 { // one may be at the write
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d bytes wait, %d calls run", queued, jobs)
		}
	}
	if n := answered.Load(); n >= calls {
		t.Errorf("all %d calls were answered", n)
	}
	for range calls {
		if r := c.reply(); r.Len() != 24+size {
			t.Fatalf("a reply of %d bytes", r.Len())
		}
	}
}

// TestThrottledReply: what was answered already is sent before a call that has to wait
// for room among the replies.
func TestThrottledReply(t *testing.T) {
	f := newFake()
	_, addr := start(t, Config{Programs: []Program{f}, Limits: Limits{Queue: 1}})
	c := dial(t, addr)
	c.send(framed(message(1, procWaits))...)
	<-f.entered
	c.send(append(framed(message(2, procNull)), framed(message(3, procWaits))...)...)
	if r := c.reply(); r.Uint32() != 2 {
		t.Error("another reply came first")
	}
	close(f.release)
	for _, xid := range []uint32{1, 3} {
		if r := c.reply(); r.Uint32() != xid {
			t.Errorf("another reply came before %d", xid)
		}
	}
}

// TestInlineLimit: with no room for cheap calls, they run as long ones.
func TestInlineLimit(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}, Limits: Limits{Inline: -1}})
	c := dial(t, addr)
	for range 5 {
		c.works()
	}
}

// TestDatagramFrom: datagrams of others are not answered, nor long replies.
func TestDatagramFrom(t *testing.T) {
	friend := netip.MustParseAddr("127.0.0.7")
	_, addr := start(t, Config{Programs: []Program{newFake()}, DatagramFrom: func(a netip.Addr) bool { return a == friend }})
	ap := netip.MustParseAddrPort(addr)
	stranger, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(ap))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: friend.AsSlice()}, net.UDPAddrFromAddrPort(ap))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	for i, b := range [][]byte{
		message(1, procBig, 1000), // an answer 20 times as long
		message(2, procNull)[:20], // no call
		make([]byte, maxDatagram+1),
		message(3, procNull),
	} {
		if _, err := stranger.Write(message(uint32(i), procNull)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 2000)
	n, err := c.Read(b)
	if err != nil || n != 24 || b[3] != 3 {
		t.Errorf("%d bytes, xid %d, %v", n, b[3], err)
	}
	_ = stranger.SetReadDeadline(time.Now())
	if n, err := stranger.Read(b); err == nil {
		t.Errorf("the stranger got %d bytes", n)
	}
}

// TestServeEnds: ctx ends a server at once, and a broken listener ends it with
// its error.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error)
	f := newFake()
	go func() { over <- New(Config{Programs: []Program{f}}).Serve(ctx, []net.Listener{l}, nil) }()
	c := dial(t, l.Addr().String())
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	cancel()
	if _, err := io.Copy(io.Discard, c.nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was not closed")
	}
	if err := <-over; err != context.Canceled {
		t.Errorf("got %v", err)
	}

	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := New(Config{}).Serve(context.Background(), []net.Listener{l}, nil); err == nil {
		t.Error("a closed listener is no error")
	}
}

// BenchmarkNull is NULL over loopback, alone and with 32 under way, with the
// client in the figures.
func BenchmarkNull(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			_, addr := start(b, Config{Programs: []Program{newFake()}})
			c := dial(b, addr)
			_ = c.nc.SetDeadline(time.Time{})
			var out []byte
			for range n {
				out = append(out, framed(message(1, procNull))...)
			}
			in := make([]byte, n*28)
			b.ReportAllocs()
			for b.Loop() {
				c.send(out...)
				if _, err := io.ReadFull(c.nc, in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/call")
		})
	}
}
