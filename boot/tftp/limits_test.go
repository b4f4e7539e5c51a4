package tftp

import (
	"context"
	"errors"
	"testing"
	"time"
)

// gate is a handler that waits to be let through.
type gate struct {
	asked chan Request
	open  chan struct{}
}

func (g gate) Open(ctx context.Context, r Request) (File, error) {
	g.asked <- r
	select {
	case <-g.open:
		return memFile{zeros{}, 3000}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestSamePortAgain: a board repeats a request that isn't answered yet, and a
// board that was reset asks anew from the port it had.
func TestSamePortAgain(t *testing.T) {
	g := gate{asked: make(chan Request, 10), open: make(chan struct{}, 10)}
	f := serve(t, Server{Handler: g})
	b := f.board()
	b.ask(rrq("a"))
	<-g.asked
	b.ask(rrq("a")) // dropped
	b.ask(rrq("b"))
	if r := <-g.asked; r.Path != "b" {
		t.Errorf("asked for %q", r.Path)
	}
	if e := f.outcome(Superseded); e.Request.Path != "a" {
		t.Errorf("%+v", e)
	}
	g.open <- struct{}{}
	b.hear()
	b.ack(1)
	b.hear()
	b.ask(rrq("b")) // under way already: the board was reset
	<-g.asked
	if e := f.outcome(Superseded); e.Request.Path != "b" || e.Bytes != 512 {
		t.Errorf("%+v", e)
	}
	g.open <- struct{}{}
	if got := b.read(512); len(got) != 3000 {
		t.Errorf("got %d bytes", len(got))
	}
	f.outcome(OK)
	if len(g.asked) != 0 {
		t.Error("a repeated request was opened twice")
	}
}

func TestLimits(t *testing.T) {
	g := gate{asked: make(chan Request, 10), open: make(chan struct{}, 10)}
	f := serve(t, Server{Handler: g, MaxTransfers: 3, MaxPerClient: 2})
	one, two, three := f.board(), f.board(), f.board()
	one.ask(rrq("a"))
	two.ask(rrq("a"))
	<-g.asked
	<-g.asked
	three.ask(rrq("a"))
	f.outcome(Busy)

	g.open <- struct{}{}
	g.open <- struct{}{}
	one.read(512)
	two.read(512)
	f.outcome(OK)
	f.outcome(OK)
	one.silence()
	// There is room again once the table has let go of them.
	for {
		three.ask(rrq("a"))
		select {
		case <-g.asked:
			g.open <- struct{}{}
			three.read(512)
			f.outcome(OK)
			return
		case e := <-f.events:
			if e.Outcome != Busy {
				t.Fatalf("%+v", e)
			}
		}
	}
}

func TestLimitOfAll(t *testing.T) {
	g := gate{asked: make(chan Request, 10), open: make(chan struct{}, 10)}
	f := serve(t, Server{Handler: g, MaxTransfers: 1, Grace: time.Millisecond})
	f.board().ask(rrq("a"))
	<-g.asked
	f.board().ask(rrq("a"))
	f.outcome(Busy)
}

// TestStop cuts off, after Grace, what doesn't end: a request that waits for
// its file and a client that has gone quiet.
func TestStop(t *testing.T) {
	g := gate{asked: make(chan Request, 10), open: make(chan struct{}, 10)}
	f := serve(t, Server{Handler: g, Grace: 20 * time.Millisecond})
	quiet := f.board()
	quiet.ask(rrq("quiet"))
	<-g.asked
	g.open <- struct{}{}
	quiet.hear()
	waits := f.board()
	waits.ask(rrq("waits"))
	<-g.asked
	f.stop()
	for range 2 {
		if e := f.outcome(Stopped); !errors.Is(e.Err, errStopped) {
			t.Errorf("%+v", e)
		}
	}
	if err := <-f.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	f.done <- nil
	waits.silence()
	quiet.silence()
}

// TestStopLetsTransfersEnd finishes what is under way.
func TestStopLetsTransfersEnd(t *testing.T) {
	f := serve(t, Server{Handler: fileOf(zeros{}, 3000), Grace: time.Minute})
	b := f.board()
	b.ask(rrq("f"))
	p := b.hear()
	f.stop()
	b.ack(1)
	if p[3] != 1 {
		t.Fatalf("heard %q", p)
	}
	for block := uint16(2); block <= 6; block++ {
		b.hear()
		b.ack(block)
	}
	f.outcome(OK)
	if err := <-f.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	f.done <- nil
}
