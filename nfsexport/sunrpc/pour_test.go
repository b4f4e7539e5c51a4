package sunrpc

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

// pourer is a Program whose large calls are written to a file.
type pourer struct {
	fd      atomic.Int64
	once    atomic.Bool
	changes atomic.Bool
	poured  atomic.Int64 // calls whose data was not in memory
}

// How a call of it ends: see also splicer.
const refuses = 10

func (p *pourer) file() int { return int(p.fd.Load()) }

func (p *pourer) Number() uint32             { return testNumber }
func (p *pourer) Versions() (uint32, uint32) { return 3, 3 }

// Plan: the arguments are where to write to, how to end, and opaque data.
func (p *pourer) Plan(c *Call) Plan {
	plan := Plan{Long: c.Procedure == procBig, Once: p.once.Load(), Changes: p.changes.Load()}
	args := c.Args
	args.Uint32()
	args.Uint32()
	if n := int(args.Uint32()); args.OK() && n&3 == 0 && n == args.Len()+c.More() {
		plan.Data = n
	}
	return plan
}

// Serve gives how many bytes were written, and the error.
func (p *pourer) Serve(_ context.Context, c *Call, w *xdr.Writer) Status {
	if c.Procedure == procNull {
		return Success
	}
	off, end := int64(c.Args.Uint32()), c.Args.Uint32()
	var n int
	var err error
	var data []byte
	if c.More() > 0 {
		p.poured.Add(1)
		if size := int(c.Args.Uint32()); size != c.More() || c.Args.Len() != 0 {
			return SystemErr
		}
	} else if data = c.Args.Opaque(2 << 20); !c.Args.OK() {
		return GarbageArgs
	}
	switch {
	case end == refuses:
	case data == nil:
		n, err = c.Pour(p.file(), off)
	default:
		n, err = unix.Pwrite(p.file(), data, off)
		n = max(n, 0)
	}
	w.Uint32(uint32(n))
	e, _ := err.(unix.Errno)
	w.Uint32(uint32(e))
	switch end {
	case endsInGarbage:
		return GarbageArgs
	case endsInPanic:
		panic("defect")
	}
	return Success
}

func newPourer(t *testing.T) *pourer {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := new(pourer)
	p.fd.Store(int64(f.Fd()))
	return p
}

// large is a call of it, as one record.
func large(xid, off, end uint32, data []byte) []byte {
	msg := message(xid, procBig, off, end, uint32(len(data)))
	msg = append(msg, data...)
	return framed(append(msg, make([]byte, -len(data)&3)...))
}

func noise(seed uint64, n int) []byte {
	b, r := make([]byte, n), rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// warm has the connection expect more calls like it.
func (c *client) warm(size int) {
	c.t.Helper()
	for range 2 {
		c.send(large(1, 8<<20, endsWell, make([]byte, size))...)
		words(c.t, c.reply(), 1, 1, ok, 0, 0, 0, uint32(size), 0)
	}
}

// TestPour: whatever the records are like, and however they come, the file has what their
// data is; what is large goes through a pipe.
func TestPour(t *testing.T) {
	whole := func(_ *Server, c *client, b []byte) { c.send(b...) }
	for _, tc := range []struct {
		name   string
		size   int
		change func(*pourer, *Server) // s.pipes.mu is held
		send   func(*Server, *client, []byte)
		copied bool
	}{
		{name: "32 KiB", size: 32 << 10},
		{name: "odd pages", size: 100004},
		{name: "128 KiB", size: 128 << 10},
		{name: "1 MiB", size: 1 << 20},
		{name: "small", size: 16 << 10, copied: true},
		{name: "padded", size: 128<<10 - 1, copied: true},
		{name: "to be kept", size: 128 << 10, copied: true, change: func(p *pourer, _ *Server) { p.once.Store(true) }},
		{name: "in fragments", size: 128 << 10, copied: true, send: func(_ *Server, c *client, b []byte) { c.send(fragments(b[markSize:], 50000)...) }},
		{name: "its end alone", size: 128 << 10, send: func(s *Server, c *client, b []byte) {
			c.send(b[:len(b)-1]...)
			arrived(c.t.(*testing.T), s)
			c.send(b[len(b)-1:]...)
		}},
		{name: "a part of its head first", size: 128 << 10, copied: true, send: func(s *Server, c *client, b []byte) {
			c.send(b[:30]...)
			arrived(c.t.(*testing.T), s)
			c.send(b[30:]...)
		}},
		{name: "its head first", size: 128 << 10, send: func(s *Server, c *client, b []byte) {
			c.send(b[:markSize+40+12]...)
			arrived(c.t.(*testing.T), s)
			c.send(b[markSize+40+12:]...)
		}},
		{name: "no pipe", size: 128 << 10, copied: true, change: func(_ *pourer, s *Server) { s.pipes.most = 0 }},
		{name: "no splice to the file", size: 128 << 10, change: func(p *pourer, _ *Server) {
			if _, err := unix.FcntlInt(uintptr(p.fd.Load()), unix.F_SETFL, unix.O_APPEND); err != nil {
				panic(err)
			}
		}},
		{name: "a pipe without room", size: 128 << 10, copied: true, change: func(_ *pourer, s *Server) {
			p := newPipe()
			if _, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, unix.Getpagesize()); err != nil {
				panic(err)
			}
			s.pipes.idle, s.pipes.made, s.pipes.most = []*pipe{p}, 1, 1
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPourer(t)
			var mu sync.Mutex
			in := 0
			s, addr := start(t, Config{Programs: []Program{p}, Observe: func(e Event) {
				if mu.Lock(); e.Procedure == procBig {
					in += e.In
				}
				mu.Unlock()
			}})
			if tc.change != nil {
				s.pipes.mu.Lock()
				tc.change(p, s)
				s.pipes.mu.Unlock()
			}
			if tc.send == nil {
				tc.send = whole
			}
			c := dial(t, addr)
			for range 2 { // the connection expects what came before
				c.send(large(1, 0, endsWell, make([]byte, tc.size))...)
				c.reply()
			}
			_ = unix.Ftruncate(p.file(), 0)
			before, sent := p.poured.Load(), 2
			var want []byte
			for i := range uint32(4) {
				data := noise(uint64(i), tc.size)
				tc.send(s, c, large(2+i, uint32(len(want)), endsWell, data))
				words(t, c.reply(), 2+i, 1, ok, 0, 0, 0, uint32(tc.size), 0)
				want = append(want, data...)
				sent++
			}
			got := make([]byte, len(want)+1)
			if n, err := unix.Pread(p.file(), got, 0); err != nil || !bytes.Equal(got[:n], want) {
				t.Errorf("the file has other bytes, %d; %v", n, err)
			}
			if n := p.poured.Load() - before; n != 4 && !tc.copied || n != 0 && tc.copied {
				t.Errorf("%d of 4 went through a pipe", n)
			}
			c.works()
			mu.Lock()
			if want := sent * (12 + (tc.size+3)&^3); in != want {
				t.Errorf("%d bytes of arguments were told, want %d", in, want)
			}
			mu.Unlock()
			if idle, made := idlePipes(s); idle != made {
				t.Errorf("%d of %d pipes wait", idle, made)
			}
		})
	}
}

// arrived waits until the server has read all that was sent.
func arrived(t *testing.T, s *Server) {
	t.Helper()
	conns := s.peers.list()
	for deadline := time.Now().Add(20 * time.Second); ; {
		left := 0
		for _, c := range conns {
			_ = c.raw.Control(func(fd uintptr) {
				n, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
				left += n
			})
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are not read", left)
		}
	}
}

// TestPourFails: a call that does not take its data, or not all, is answered as when it is
// in memory, and nobody else gets it.
func TestPourFails(t *testing.T) {
	const size = 128 << 10
	sealed := func(t *testing.T, room int64) int {
		fd, err := unix.MemfdCreate("sealed", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Ftruncate(fd, room); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	for _, tc := range []struct {
		name string
		fd   func(t *testing.T) int
		end  uint32
		off  uint32
		want []uint32
		got  int // bytes of the data that the file has
	}{
		{name: "refused", end: refuses, want: []uint32{uint32(Success), 0, 0}},
		{name: "garbage", end: endsInGarbage, want: []uint32{uint32(GarbageArgs)}, got: size},
		{name: "panic", end: endsInPanic, want: []uint32{uint32(SystemErr)}, got: size},
		{name: "no file", fd: func(*testing.T) int { return -1 }, want: []uint32{uint32(Success), 0, uint32(unix.EBADF)}},
		{
			name: "room for a half", fd: func(t *testing.T) int { return sealed(t, size/2) },
			want: []uint32{uint32(Success), size / 2, 0}, got: size / 2,
		},
		{
			name: "room for none", fd: func(t *testing.T) int { return sealed(t, 0) },
			want: []uint32{uint32(Success), 0, uint32(unix.EPERM)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPourer(t)
			s, addr := start(t, Config{Programs: []Program{p}})
			c := dial(t, addr)
			c.warm(size)
			file := p.file()
			if tc.fd != nil {
				p.fd.Store(int64(tc.fd(t)))
			}
			data := noise(1, size)
			_ = unix.Ftruncate(file, 0)
			before := p.poured.Load()
			c.send(large(2, 0, tc.end, data)...)
			words(t, c.reply(), append([]uint32{2, 1, ok, 0, 0}, tc.want...)...)
			got := make([]byte, size+1)
			n, _ := unix.Pread(p.file(), got, 0)
			if n = max(n, 0); !bytes.Equal(got[:n], data[:tc.got]) {
				t.Errorf("the file has %d bytes, want the first %d", n, tc.got)
			}
			p.fd.Store(int64(file))
			other := noise(2, size)
			c.send(large(3, 0, endsWell, other)...)
			words(t, c.reply(), 3, 1, ok, 0, 0, 0, size, 0)
			if n, err := unix.Pread(p.file(), got, 0); err != nil || !bytes.Equal(got[:n], other) {
				t.Errorf("the next call's file has other bytes, %d; %v", n, err)
			}
			if n := p.poured.Load() - before; n != 2 {
				t.Errorf("%d of 2 went through a pipe", n)
			}
			if idle, made := idlePipes(s); idle != made {
				t.Errorf("%d of %d pipes wait", idle, made)
			}
		})
	}
}

// TestPourStops: who begins a large call and does not end it keeps a pipe and nothing else,
// until he is cut; meanwhile others are served, whether there are pipes or not.
func TestPourStops(t *testing.T) {
	const size = 128 << 10
	p := newPourer(t)
	s, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{Pipes: 2}})
	slow, gone, good := dialFrom(t, addr, "127.0.0.7", true), dialFrom(t, addr, "127.0.0.8", true), dialFrom(t, addr, "127.0.0.9", true)
	for _, c := range []*client{slow, gone, good} {
		c.warm(size)
	}
	before := p.poured.Load()
	b := large(2, 0, endsWell, noise(1, size))
	slow.send(b[:len(b)-4]...)
	gone.send(b[:len(b)-4]...)
	for idle, made := idlePipes(s); made-idle < 2; idle, made = idlePipes(s) {
		good.works() // ends the test when it takes too long
	}
	for i := range uint32(3) {
		good.send(large(3, 4<<20, endsWell, noise(2, size))...)
		words(t, good.reply(), 3, 1, ok, 0, 0, 0, size, 0)
		if n := p.poured.Load() - before; n != 0 {
			t.Fatalf("call %d went through a pipe, and there is none", i)
		}
	}
	_ = gone.nc.Close()
	s.sweep(s.clock.Load() + int64(2*time.Minute)) // it has stopped for longer than Limits.Receive
	slow.wantClosed()
	for idle, made := idlePipes(s); made != idle; idle, made = idlePipes(s) {
		good.works()
	}
	got := make([]byte, size)
	if n, err := unix.Pread(p.file(), got, 0); err != nil || !bytes.Equal(got[:n], make([]byte, n)) {
		t.Errorf("the file has a part of a record: %v", err)
	}
	good.send(large(3, 0, endsWell, noise(2, size))...)
	words(t, good.reply(), 3, 1, ok, 0, 0, 0, size, 0)
	good.send(large(4, 0, endsWell, noise(3, size))...)
	words(t, good.reply(), 4, 1, ok, 0, 0, 0, size, 0)
	if n := p.poured.Load() - before; n == 0 {
		t.Error("none goes through a pipe any more")
	}
}
