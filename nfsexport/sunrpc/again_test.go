package sunrpc

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"rubus/nfsexport/xdr"
)

// noting is a Program that notes when its calls begin and end. procSlow waits for release,
// and for nothing else, as a write to a disk that hangs.
type noting struct {
	*fake
	mu    sync.Mutex
	notes []string
}

func (p *noting) note(what string, c *Call) {
	p.mu.Lock()
	p.notes = append(p.notes, fmt.Sprint(what, c.XID))
	p.mu.Unlock()
}

func (p *noting) Serve(_ context.Context, c *Call, _ *xdr.Writer) Status {
	p.note("begins ", c)
	defer p.note("ends ", c)
	if c.Procedure == procSlow {
		p.entered <- struct{}{}
		<-p.release
	}
	return Success
}

// is compares what was noted.
func (p *noting) is(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.notes, want) {
		t.Errorf("it was %q, want %q", p.notes, want)
	}
}

// anew has a client whose connection broke come again from its port.
func (c *client) anew() *client {
	c.t.Helper()
	_ = c.nc.(*net.TCPConn).SetLinger(0)
	c.nc.Close()
	nc, err := net.DialTCP("tcp", c.nc.LocalAddr().(*net.TCPAddr), c.nc.RemoteAddr().(*net.TCPAddr))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	return &client{c.t, nc}
}

// TestConnectedAnew: a client whose connection broke comes again from its port, as a
// kernel's does, and sends its calls again. What the old connection had still is not run,
// and nothing of the new one before what ran has ended: else an old WRITE would go over
// what a newer one wrote. So it is for a third, that comes while the second waits.
func TestConnectedAnew(t *testing.T) {
	for _, times := range []int{1, 3} {
		t.Run(fmt.Sprint(times, " times"), func(t *testing.T) {
			p := &noting{fake: newFake()}
			s, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{CallsPerConn: 1}})
			c := dial(t, addr)
			c.send(framed(message(1, procSlow))...)
			<-p.entered
			// One call at a time: one is read, and waits, the other lies behind it.
			c.send(append(framed(message(2, procBig, 0)), framed(message(3, procEcho))...)...)
			arrived(t, s)
			conns := s.peers.list()
			for range times {
				c = c.anew()
				for xid := range uint32(3) {
					c.send(framed(message(2+xid, procEcho))...)
				}
				// The new connection is in.
				for now := s.peers.list(); slices.Contains(conns, now[0]); now = s.peers.list() {
					runtime.Gosched()
				}
				conns = append(conns, s.peers.list()...)
			}
			close(p.release)
			for xid := range uint32(3) {
				words(t, c.reply(), 2+xid, 1, ok, 0, 0, 0)
			}
			for _, old := range conns[:len(conns)-1] {
				<-old.over
			}
			p.is(t, "begins 1", "ends 1", "begins 2", "ends 2", "begins 3", "ends 3", "begins 4", "ends 4")
			if st := s.Stats(); st.Conns != 1 || st.Evicted != 0 || st.Refused != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestConnectedAnewAfterCut: it is so, too, when the server itself has cut the connection
// whose call runs still, or the one that waited for it.
func TestConnectedAnewAfterCut(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, s *Server, c *client) *client{
		"to make room": func(t *testing.T, s *Server, c *client) *client {
			dial(t, c.nc.RemoteAddr().String()).works()
			c.wantClosed()
			return c
		},
		"as it was idle while it waited": func(_ *testing.T, s *Server, c *client) *client {
			old := s.peers.list()[0]
			c = c.anew()
			for now := old; now == old; now = s.peers.list()[0] {
				runtime.Gosched()
			}
			waits := s.peers.list()[0]
			waits.cut()
			<-waits.over
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &noting{fake: newFake()}
			s, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{ConnsPerPeer: 1}})
			c := dial(t, addr)
			c.send(framed(message(10, procSlow))...)
			<-p.entered
			first := s.peers.list()[0]
			c = cut(t, s, c)
			conns := s.peers.list()
			c = c.anew()
			c.send(framed(message(11, procNull))...)
			for now := s.peers.list(); len(now) == 0 || slices.Contains(conns, now[0]); now = s.peers.list() {
				runtime.Gosched()
			}
			if now := s.peers.list()[0]; now.before != (<-chan struct{})(first.over) {
				t.Error("it does not wait for the calls of the connection before")
			}
			close(p.release)
			words(t, c.reply(), 11, 1, ok, 0, 0, 0)
			<-first.over
		})
	}
}

// TestSentAgain: a call that takes so long that it is sent again is run once, and answered
// once.
func TestSentAgain(t *testing.T) {
	for name, limits := range map[string]Limits{"one of many": {}, "as many as may run": {CallsPerConn: 1}} {
		t.Run(name, func(t *testing.T) { sentAgain(t, limits) })
	}
}

func sentAgain(t *testing.T, limits Limits) {
	p := &noting{fake: newFake()}
	_, addr := start(t, Config{Programs: []Program{p}, Limits: limits})
	release := sync.OnceFunc(func() { close(p.release) })
	t.Cleanup(release)
	c := dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	<-p.entered
	c.send(append(framed(message(1, procSlow)), framed(message(2, procNull))...)...)
	words(t, c.reply(), 2, 1, ok, 0, 0, 0)
	release()
	words(t, c.reply(), 1, 1, ok, 0, 0, 0)
	c.send(framed(message(3, procNull))...)
	words(t, c.reply(), 3, 1, ok, 0, 0, 0)
	c.send(framed(message(1, procNull))...) // of another time
	words(t, c.reply(), 1, 1, ok, 0, 0, 0)
	p.is(t, "begins 1", "begins 2", "ends 2", "ends 1", "begins 3", "ends 3", "begins 1", "ends 1")
}

// quick is noting whose procSlow is planned as if it took no time, and waits for what its
// number has in hold.
type quick struct {
	*noting
	hold map[uint32]chan struct{}
}

func (p *quick) Plan(*Call) Plan { return Plan{} }

func (p *quick) Serve(_ context.Context, c *Call, _ *xdr.Writer) Status {
	p.note("begins ", c)
	defer p.note("ends ", c)
	if hold := p.hold[c.XID]; hold != nil {
		p.entered <- struct{}{}
		<-hold
	}
	return Success
}

// TestSentAgainInACrowd: so it is with a call that is run as a long one because there are too
// many, and comes again when there are few.
func TestSentAgainInACrowd(t *testing.T) {
	p := &quick{&noting{fake: newFake()}, map[uint32]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}}
	_, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{Inline: 1}})
	release := sync.OnceFunc(func() { close(p.hold[2]) })
	t.Cleanup(release)
	crowd := dial(t, addr)
	crowd.send(framed(message(1, procSlow))...)
	<-p.entered
	c := dial(t, addr)
	c.send(framed(message(2, procSlow))...)
	<-p.entered
	close(p.hold[1])
	words(t, crowd.reply(), 1, 1, ok, 0, 0, 0)
	again := append(framed(message(2, procSlow)), framed(message(3, procNull))...)
	c.send(again...)
	words(t, c.reply(), 3, 1, ok, 0, 0, 0)
	release()
	words(t, c.reply(), 2, 1, ok, 0, 0, 0)
	c.send(again...) // of another time
	words(t, c.reply(), 2, 1, ok, 0, 0, 0)
	words(t, c.reply(), 3, 1, ok, 0, 0, 0)
	p.is(t, "begins 1", "begins 2", "ends 1", "begins 3", "ends 3", "ends 2", "begins 2", "ends 2", "begins 3", "ends 3")
}
