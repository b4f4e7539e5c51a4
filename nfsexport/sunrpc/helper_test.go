package sunrpc

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"rubus/nfsexport/xdr"
)

// The procedures of the program that these tests serve.
const (
	procNull = iota
	procEcho
	procSlow  // waits for release
	procWaits // as procSlow, and says so before
	procBig   // replies as many bytes as its argument says
	procPanic
	procOnce // counts
	procWeak
	procGarbage
	testProcs

	testNumber = 0x20000042
)

// fake is a Program whose slow calls the test holds.
type fake struct {
	entered chan struct{}
	release chan struct{}
	count   atomic.Uint32
	begun   atomic.Int64
	forget  atomic.Bool
}

func newFake() *fake {
	return &fake{entered: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (f *fake) Number() uint32             { return testNumber }
func (f *fake) Versions() (uint32, uint32) { return 2, 3 }

func (f *fake) Plan(c *Call) Plan {
	switch c.Procedure {
	case procSlow, procWaits:
		return Plan{Long: true}
	case procBig:
		args := c.Args
		return Plan{Long: true, Reply: int(args.Uint32())}
	case procOnce:
		return Plan{Long: true, Once: true}
	}
	return Plan{}
}

func (f *fake) Serve(ctx context.Context, c *Call, w *xdr.Writer) Status {
	switch c.Procedure {
	case procNull:
	case procEcho:
		w.Buf = append(w.Buf, c.Args.Rest()...)
	case procSlow, procWaits:
		if c.Procedure == procWaits {
			c.Waits()
			c.Waits() // is no different from once
		}
		f.entered <- struct{}{}
		select {
		case <-f.release:
		case <-ctx.Done():
		}
		w.Uint32(7)
	case procBig:
		w.Extend(int(c.Args.Uint32()))
	case procPanic:
		w.Uint32(1)
		panic("defect")
	case procOnce:
		f.begun.Store(c.Begun)
		w.Uint32(f.count.Add(1))
		c.Forget = f.forget.Load()
	case procWeak:
		if c.Flavor != AuthSys {
			return AuthTooWeak
		}
		w.Uint32(c.UID)
		w.Uint32(c.GID)
		w.Uint32(uint32(len(c.Groups())))
		for _, g := range c.Groups() {
			w.Uint32(g)
		}
	case procGarbage:
		w.Uint32(1)
		return GarbageArgs
	default:
		return ProcUnavail
	}
	return Success
}

// message is a call of the test program with AUTH_NONE.
func message(xid, proc uint32, args ...uint32) []byte {
	return messageTo(xid, testNumber, 3, proc, args...)
}

func messageTo(xid, prog, vers, proc uint32, args ...uint32) []byte {
	var w xdr.Writer
	for _, v := range []uint32{xid, msgCall, rpcVersion, prog, vers, proc, AuthNone, 0, AuthNone, 0} {
		w.Uint32(v)
	}
	for _, v := range args {
		w.Uint32(v)
	}
	return w.Buf
}

// framed puts the record mark before a message.
func framed(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))|lastFragment), msg...)
}

// start serves cfg on a loopback port until the test ends.
func start(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	s := New(cfg)
	return s, s.startFor(t)
}

// startFor is start for a server that there is; it gives its address.
func (s *Server) startFor(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- s.Serve(context.Background(), []net.Listener{l}, []net.PacketConn{pc}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-over; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// client is one connection of a test.
type client struct {
	t  testing.TB
	nc net.Conn
}

// dial connects from a port that is bound, and so no other connection's: one that the kernel
// chooses as it connects may be in TIME_WAIT for another server, and not to be had by anew.
func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = nc.Close() })
	return &client{t, nc}
}

func (c *client) send(b ...byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one record.
func (c *client) reply() xdr.Reader {
	c.t.Helper()
	b, err := c.tryReply()
	if err != nil {
		c.t.Fatalf("reading a reply: %v", err)
	}
	return xdr.NewReader(b)
}

func (c *client) tryReply() ([]byte, error) {
	var mark [4]byte
	if _, err := io.ReadFull(c.nc, mark[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(mark[:])&^lastFragment)
	_, err := io.ReadFull(c.nc, b)
	return b, err
}

// words compares a message with the words wanted.
func words(t testing.TB, r xdr.Reader, want ...uint32) {
	t.Helper()
	var got []uint32
	for r.OK() && r.Len() > 0 {
		got = append(got, r.Uint32())
	}
	if len(got) != len(want) {
		t.Fatalf("got %x, want %x", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %x, want %x", got, want)
		}
	}
}

// wantClosed waits for the server to close the connection.
func (c *client) wantClosed() {
	c.t.Helper()
	if b, err := c.tryReply(); err == nil {
		c.t.Fatalf("got a reply of %d bytes, want the connection closed", len(b))
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the connection was not closed")
	}
}
