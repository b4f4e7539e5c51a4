package sunrpc

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestShutdown: a call in flight is answered, then the connection is closed,
// and nobody comes in.
func TestShutdown(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}})
	c, idle := dial(t, addr), dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	over := make(chan error)
	go func() { over <- s.Shutdown(context.Background()) }()
	idle.wantClosed()
	close(f.release)
	words(t, c.reply(), 1, 1, ok, 0, 0, 0, 7)
	c.wantClosed()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		_ = nc.Close()
		t.Error("still listening")
	}
}

// TestServeTwice: listeners that come later are served like the first, and all
// end together.
func TestServeTwice(t *testing.T) {
	f := newFake()
	s, first := start(t, Config{Programs: []Program{f}, Limits: Limits{Write: 40 * time.Millisecond}}) // it looks often
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error)
	go func() { over <- s.Serve(context.Background(), []net.Listener{l}, nil) }()
	for _, addr := range []string{first, l.Addr().String()} {
		c := dial(t, addr)
		c.works()
		for _, in := range s.peers.list() {
			in.lastRead.Store(-int64(time.Hour))
		}
		c.wantClosed() // idle: the sweeper is there for both
	}
	c := dial(t, l.Addr().String())
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	down := make(chan error)
	go func() { down <- s.Shutdown(context.Background()) }()
	<-s.stop
	close(f.release)
	words(t, c.reply(), 1, 1, ok, 0, 0, 0, 7)
	if err := errors.Join(<-down, <-over); err != nil {
		t.Error(err)
	}
	// Too late: the listener is closed, and nothing is left behind.
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), []net.Listener{l}, nil); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestShutdownInTime: a call that does not end does not hold up the stop.
func TestShutdownInTime(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}})
	c := dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	c.wantClosed()
}
