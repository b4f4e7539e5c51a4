package sunrpc

import (
	"context"
	"sync"
	"testing"
	"time"

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

// forget begins to count the calls anew.
func (c *counting) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = 0
}

// defective panics in its wait, and waits in calls that are not long.
type defective struct{ *fake }

func (p defective) Plan(c *Call) Plan {
	plan := p.fake.Plan(c)
	if c.Procedure == procEcho {
		plan.Shared = 4
	}
	return plan
}

func (p defective) Serve(ctx context.Context, c *Call, w *xdr.Writer) Status {
	switch c.Procedure {
	case procSlow, procPanic:
		c.Waits()
		panic("defect")
	case procEcho:
		c.Waits()
	}
	return p.fake.Serve(ctx, c, w)
}

// ServeAll implements Joiner. It answers calls of which the second argument is 1.
func (p defective) ServeAll(_ context.Context, c *Call, parts []Part, w *xdr.Writer) bool {
	c.Waits()
	for i := range parts {
		args := parts[i].Args
		if args.Uint32(); args.Uint32() != 1 {
			return false
		}
		parts[i].Begin(w)
	}
	return true
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

	// Calls that are not long are counted while they run: alone, also when they panic,
	// together, and alone after they were not run together.
	for _, calls := range []struct {
		sent [][]byte
		told int
	}{
		{[][]byte{message(6, procEcho, 9, 1)}, 2},
		{[][]byte{message(6, procPanic)}, 2},
		{[][]byte{message(6, procEcho, 9, 1), message(7, procEcho, 9, 1)}, 2},
		{[][]byte{message(6, procEcho, 9, 1), message(7, procEcho, 9, 2)}, 6},
	} {
		var all []byte
		for _, m := range calls.sent {
			all = append(all, framed(m)...)
		}
		threads.forget()
		c.send(all...)
		for range calls.sent {
			c.reply()
		}
		threads.is(t, 0, calls.told)
	}
}

// unplanned has no long calls.
type unplanned struct{ *fake }

func (unplanned) Plan(*Call) Plan { return Plan{} }

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

	// One that was not thought to be long is noticed when it ends.
	_, addr = start(t, Config{Programs: []Program{unplanned{f}}, Threads: threads, Observe: func(Event) {}})
	c = dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	<-f.entered
	time.Sleep(2 * watchTick) // how long it takes
	select {
	case <-threads.late:
		t.Error("it is noticed before it ends")
	default:
	}
	f.release <- struct{}{}
	<-threads.late
	c.reply()
}
