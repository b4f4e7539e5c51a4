package source

import (
	"context"
	"io"
	"sync"
	"time"
)

// ahead reads a stream in a goroutine of its own, a few blocks ahead: so that
// decompressing and writing go on side by side, and a read that never ends
// (a terminal, a pipe) can't keep an import from being canceled.
type ahead struct {
	ctx   context.Context //nolint:containedctx // lives as long as one import
	full  chan block
	free  chan []byte
	quit  chan struct{}
	stop  func()
	ended chan struct{}
	now   block
}

type block struct {
	buf, rest []byte
	err       error
}

func newAhead(ctx context.Context, r io.Reader) *ahead {
	const blocks, size = 4, 256 << 10
	a := &ahead{
		ctx: ctx, full: make(chan block, blocks), free: make(chan []byte, blocks),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	a.stop = sync.OnceFunc(func() { close(a.quit) })
	for range blocks {
		a.free <- make([]byte, size)
	}
	go func() {
		defer close(a.ended)
		a.pump(r)
	}()
	return a
}

func (a *ahead) pump(r io.Reader) {
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.quit:
			return
		}
		n := 0
		var err error
		for n < len(buf) && err == nil {
			var k int
			k, err = r.Read(buf[n:])
			n += k
		}
		select {
		case a.full <- block{buf, buf[:n], err}:
		case <-a.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (a *ahead) Read(b []byte) (int, error) {
	for len(a.now.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.buf != nil {
			a.free <- a.now.buf
		}
		select {
		case a.now = <-a.full:
		case <-a.ctx.Done():
			return 0, a.ctx.Err()
		case <-a.quit:
			return 0, context.Canceled
		}
	}
	n := copy(b, a.now.rest)
	a.now.rest = a.now.rest[n:]
	return n, nil
}

// Close ends the goroutine and says whether it did: not when it hangs in a read
// of a pipe that nobody writes to. Then what it reads from must not be closed.
func (a *ahead) Close() bool {
	a.stop()
	select {
	case <-a.ended:
		return true
	case <-time.After(time.Second):
		return false
	}
}
