package sunrpc

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"rubus/nfsexport/xdr"
)

// crowd is a Program of long calls that take no time. Each says whose it is, which is
// written down, and whether it is his first: that waits until all are there.
type crowd struct {
	*fake
	plan Plan
	all  chan struct{} // closed when they are

	mu    sync.Mutex
	order []uint32
}

func (p *crowd) Plan(*Call) Plan { return p.plan }

func (p *crowd) Serve(_ context.Context, c *Call, w *xdr.Writer) Status {
	who, first := c.Args.Uint32(), c.Args.Uint32() == 1
	if first {
		p.entered <- struct{}{}
		<-p.all
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order = append(p.order, who)
	w.Uint32(who)
	return Success
}

// TestTurns: a connection that always has more to do lets another have its turn, with one
// thread for both.
func TestTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, c := range []struct {
		name string
		plan Plan
		each int // calls of a share
	}{
		{"large READs", Plan{Long: true, Reply: 128 << 10}, 1},
		{"large WRITEs", Plan{Long: true, Data: 128 << 10}, 1},
		{"many small ones", Plan{Long: true, Reply: 32 << 10}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			const shares = 10
			p := &crowd{fake: newFake(), plan: c.plan, all: make(chan struct{})}
			s, addr := start(t, Config{Programs: []Program{p}})
			s.watch.mu.Lock()
			s.watch.every = time.Hour // nobody else reads on
			s.watch.mu.Unlock()
			clients := []*client{dial(t, addr), dial(t, addr)}
			for who, cl := range clients {
				var calls []byte
				for i := range uint32(shares * c.each) {
					calls = append(calls, framed(message(i, procBig, uint32(who), min(i+1, 2)))...)
				}
				cl.send(calls...)
				<-p.entered
			}
			close(p.all)
			for _, cl := range clients {
				for range shares * c.each {
					cl.reply()
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			// Once in a while Go lets the same one go on.
			alone := slices.IndexFunc(p.order, func(who uint32) bool { return who != p.order[0] })
			if alone > 3*c.each {
				t.Errorf("one makes %d calls before the other has a turn: %v", alone, p.order)
			}
		})
	}
}
