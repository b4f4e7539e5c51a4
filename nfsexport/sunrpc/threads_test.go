package sunrpc

import (
	"context"
	"sync"
	"testing"

	"rubus/nfsexport/xdr"
)

// counting is Threads that counts.
type counting struct {
	mu           sync.Mutex
	waits, calls int
	late         chan struct{}
}

func (c *counting) Waits(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits += n
	c.calls++
}

func (c *counting) Late() {
	select {
	case c.late <- struct{}{}:
	default:
	}
}

func (c *counting) is(t *testing.T, waits, calls int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits != waits || c.calls != calls {
		t.Errorf("%d calls wait, told %d times, want %d and %d", c.waits, c.calls, waits, calls)
	}
}

// defective panics in its wait.
type defective struct{ *fake }

func (p defective) Serve(ctx context.Context, c *Call, w *xdr.Writer) Status {
	if c.Procedure == procSlow {
		c.Waits()
		panic("defect")
	}
	return p.fake.Serve(ctx, c, w)
}

// TestThreads: of calls that wait is told when they begin and when they end, each once.
func TestThreads(t *testing.T) {
	f, threads := newFake(), &counting{}
	_, addr := start(t, Config{Programs: []Program{defective{f}}, Threads: threads})
	c := dial(t, addr)
	c.send(framed(message(1, procWaits))...)
	<-f.entered
	threads.is(t, 1, 1)
	c.send(append(framed(message(2, procWaits)), framed(message(3, procNull))...)...)
	<-f.entered
	c.reply() // to the third
	threads.is(t, 2, 2)
	f.release <- struct{}{}
	f.release <- struct{}{}
	c.reply()
	c.reply()
	threads.is(t, 0, 4)
	c.send(append(framed(message(4, procBig, 4)), framed(message(5, procSlow))...)...)
	c.reply()
	c.reply()
	threads.is(t, 0, 6)
}

// TestThreadsLate: of a call that says nothing and takes long is told, too.
func TestThreadsLate(t *testing.T) {
	f, threads := newFake(), &counting{late: make(chan struct{}, 1)}
	_, addr := start(t, Config{Programs: []Program{f}, Threads: threads})
	c := dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	<-threads.late
	f.release <- struct{}{}
	c.reply()
	threads.is(t, 0, 0)
}
