package nfs3

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// serve serves cfg on a loopback port until the test ends.
func serve(t testing.TB, cfg sunrpc.Config) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := sunrpc.New(cfg)
	over := make(chan error, 1)
	go func() { over <- s.Serve(context.Background(), []net.Listener{l}, nil) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	t.Cleanup(func() {
		_ = c.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return c
}

// exchange sends one call and reads n bytes.
func exchange(t testing.TB, cfg sunrpc.Config, call []byte, n int) []byte {
	t.Helper()
	c := serve(t, cfg)
	if _, err := c.Write(call); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// BenchmarkServe is a call without the wire: no allocation is allowed.
func BenchmarkServe(b *testing.B) {
	for name, v := range map[string]struct {
		proc uint32
		args []byte
	}{
		"null": {ProcNull, nil}, "getattr": {ProcGetAttr, args("0123456789abcdef")},
		"lookup": {ProcLookup, args("0123456789abcdef", "vmlinuz")},
	} {
		b.Run(name, func(b *testing.B) {
			fs := sample()
			fs.calls = nil
			p := NewProgram(fs)
			c := rpcCall(v.proc, v.args)
			again := c.Args
			var w xdr.Writer
			b.ReportAllocs()
			for b.Loop() {
				c.Args = again
				w.Truncate(0)
				p.Serve(context.Background(), c, &w)
			}
			if n := testing.AllocsPerRun(100, func() {
				c.Args = again
				w.Truncate(0)
				p.Serve(context.Background(), c, &w)
			}); n != 0 {
				b.Errorf("%v allocations", n)
			}
		})
	}
}

// BenchmarkWire is a call over loopback, alone and with 32 under way; it counts
// the client's work too.
func BenchmarkWire(b *testing.B) {
	fs := sample()
	fs.calls = nil
	call := golden(b, "testdata/lookup-call.hex")
	for name, n := range map[string]int{"one": 1, "batch of 32": 32} {
		b.Run(name, func(b *testing.B) {
			c := serve(b, sunrpc.Config{Programs: []sunrpc.Program{NewProgram(fs)}})
			var out []byte
			for range n {
				out = append(out, call...)
			}
			in := make([]byte, n*len(golden(b, "testdata/lookup-reply.hex")))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(out); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/call")
		})
	}
}
