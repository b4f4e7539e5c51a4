package sunrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"rubus/nfsexport/xdr"
)

// splicer is a Program whose replies end in pieces of a file.
type splicer struct {
	file    *os.File
	spliced atomic.Int64
}

// How a call of it ends.
const (
	endsWell = iota
	endsInGarbage
	endsInPanic
	takesItBack
)

func (p *splicer) Number() uint32             { return testNumber }
func (p *splicer) Versions() (uint32, uint32) { return 3, 3 }
func (p *splicer) Plan(c *Call) Plan          { return Plan{Long: c.Procedure == procBig} }

// Serve gives the number of bytes of the file and the bytes, as opaque data; its
// arguments are offset, length, and how it ends.
func (p *splicer) Serve(_ context.Context, c *Call, w *xdr.Writer) Status {
	if c.Procedure == procNull {
		return Success
	}
	off, n, end := int64(c.Args.Uint32()), int(c.Args.Uint32()), c.Args.Uint32()
	at := w.Len()
	w.Uint32(0)
	taken := c.Splice(int(p.file.Fd()), off, n)
	if taken > 0 {
		p.spliced.Add(1)
		if c.Splice(int(p.file.Fd()), off, n) != 0 {
			panic("a reply with two ends")
		}
	}
	if end == takesItBack {
		c.Unsplice()
		taken = 0
	}
	if taken == 0 {
		m, _ := p.file.ReadAt(w.Extend(n), off)
		w.Truncate(at + 4 + m)
		w.Pad(m)
		taken = m
	}
	w.PutUint32(at, uint32(taken))
	switch end {
	case endsInGarbage:
		return GarbageArgs
	case endsInPanic:
		panic("defect")
	}
	return Success
}

func newSplicer(t *testing.T, size int) (*splicer, []byte) {
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &splicer{file: f}, data
}

// idlePipes says how many pipes wait, and how many there are.
func idlePipes(s *Server) (idle, made int) {
	s.pipes.mu.Lock()
	defer s.pipes.mu.Unlock()
	return len(s.pipes.idle), s.pipes.made
}

// TestSplice: a reply that ends in a file's pages is the one that a copy would be, of
// whatever length, at whatever offset, and between other replies.
func TestSplice(t *testing.T) {
	p, data := newSplicer(t, 1<<20+4096+5)
	s, addr := start(t, Config{Programs: []Program{p}})
	c := dial(t, addr)
	for _, at := range []struct {
		off, n int
		copied bool
	}{
		{n: 1},
		{n: 2},
		{n: 3},
		{n: 4},
		{n: 4095},
		{n: 4096},
		{n: 4097},
		{off: 1, n: 4096},
		{off: 4095, n: 2},
		{off: 7, n: 65533},
		{n: 128 << 10},
		{n: 1 << 20},
		{off: 4096, n: 1 << 20},
		{off: 1, n: 1 << 20, copied: true}, // on one page more than a pipe has room for
		{off: 1 << 20, n: 1 << 20},
		{off: 1<<20 + 4096, n: 4096}, // beyond the end
		{off: 2 << 20, n: 4096, copied: true},
		{n: 0, copied: true},
	} {
		t.Run(fmt.Sprint(at.off, "+", at.n), func(t *testing.T) {
			before := p.spliced.Load()
			c.t = t
			// Others before, behind and between.
			null := framed(message(7, procNull))
			call := func(xid uint32) []byte {
				return framed(message(xid, procBig, uint32(at.off), uint32(at.n), endsWell))
			}
			c.send(bytes.Join([][]byte{null, call(1), null, call(2), call(3), null}, nil)...)
			want := data[min(at.off, len(data)):min(at.off+at.n, len(data))]
			for got := 0; got < 6; got++ {
				r := c.reply()
				if xid := r.Uint32(); xid == 7 {
					continue
				}
				words(t, xdr.NewReader(r.Fixed(20)), 1, ok, 0, 0, 0)
				if b := r.Opaque(len(data)); !r.OK() || !bytes.Equal(b, want) || r.Len() != 0 {
					t.Fatalf("%d bytes and %d behind them, %v; want %d", len(b), r.Len(), r.OK(), len(want))
				}
			}
			if n := p.spliced.Load() - before; n != 3 && !at.copied || n != 0 && at.copied {
				t.Errorf("%d of 3 were spliced", n)
			}
		})
	}
	for idle, made := idlePipes(s); idle != made || made < 1; idle, made = idlePipes(s) {
		c.works() // ends the test when it takes too long
	}
}

// TestSpliceTakenBack: what a call had spliced when it failed is in no reply, its own or
// another.
func TestSpliceTakenBack(t *testing.T) {
	p, data := newSplicer(t, 8192)
	s, addr := start(t, Config{Programs: []Program{p}})
	c := dial(t, addr)
	for name, end := range map[string]struct {
		how  uint32
		want []uint32
	}{
		"garbage":    {endsInGarbage, []uint32{1, 1, ok, 0, 0, uint32(GarbageArgs)}},
		"panic":      {endsInPanic, []uint32{1, 1, ok, 0, 0, uint32(SystemErr)}},
		"taken back": {takesItBack, append([]uint32{1, 1, ok, 0, 0, 0, 12}, toWords(data[:12])...)},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			c.send(framed(message(1, procBig, 0, 12, end.how))...)
			words(t, c.reply(), end.want...)
			c.send(framed(message(2, procBig, 4, 4, endsWell))...)
			words(t, c.reply(), append([]uint32{2, 1, ok, 0, 0, 0, 4}, toWords(data[4:8])...)...)
		})
	}
	if _, made := idlePipes(s); made > 2 {
		t.Errorf("%d pipes", made) // what was not empty was closed
	}
}

func toWords(b []byte) (w []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		w = append(w, binary.BigEndian.Uint32(b))
	}
	return w
}

// TestSpliceSlowReader: who asks and does not read holds a quarter of the pipes at most,
// is sent everything all the same, and when he goes the pipes are to be had again.
func TestSpliceSlowReader(t *testing.T) {
	const calls = 40
	p, data := newSplicer(t, 1<<20)
	s, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{Pipes: 8, Queue: 64 << 20}})
	ask := func(from string) *client {
		c := dialFrom(t, addr, from, false)
		for i := range uint32(calls) {
			c.send(framed(message(i, procBig, 0, 1<<20, endsWell))...)
		}
		return c
	}
	patient, gone := ask("127.0.0.7"), ask("127.0.0.8")
	for range calls {
		r := patient.reply()
		r.Fixed(24)
		if b := r.Opaque(len(data)); !bytes.Equal(b, data) || r.Len() != 0 {
			t.Fatal("other bytes")
		}
	}
	s.pipes.mu.Lock()
	for _, one := range s.peers.list() {
		if one.who.pipes > 2 {
			t.Errorf("%s has %d of 8 pipes", one.addr, one.who.pipes)
		}
	}
	s.pipes.mu.Unlock()
	_ = gone.nc.Close()
	c := dialFrom(t, addr, "127.0.0.7", true)
	made := 0
	for idle := -1; s.Stats().Conns > 2 || idle != made; idle, made = idlePipes(s) {
		c.works() // ends the test when it takes too long
	}
	if made > 4 {
		t.Errorf("%d pipes", made)
	}
	if n := p.spliced.Load(); n == 0 || n == 2*calls {
		t.Errorf("%d of %d replies were spliced, want some", n, 2*calls)
	}
}

// TestPipesAreClosed: none is left when the server has ended.
func TestPipesAreClosed(t *testing.T) {
	var s *Server
	t.Run("while it serves", func(t *testing.T) {
		p, _ := newSplicer(t, 8192)
		var addr string
		s, addr = start(t, Config{Programs: []Program{p}})
		c := dial(t, addr)
		c.send(framed(message(1, procBig, 0, 8192, endsWell))...)
		c.reply()
	})
	if idle, made := idlePipes(s); idle != 0 || made != 0 {
		t.Errorf("%d of %d pipes are left", idle, made)
	}
	none := pipes{}
	if none.get(new(peer)) != nil {
		t.Error("a pipe beyond the most")
	}
	var p *pipe
	if none.put(p); p.size() != 0 {
		t.Error("no pipe has a size")
	}
}
