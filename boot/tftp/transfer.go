package tftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	pin "github.com/pin/tftp/v3"
)

// body is the file as pin/tftp reads it: exactly size bytes, and errors the
// library doesn't take for an end.
type body struct {
	r    *bufio.Reader
	left int64
	err  error
}

func newBody(f File) *body {
	// Blocks are small and the disk's file system is in the way of each.
	return &body{r: bufio.NewReaderSize(f, 64<<10), left: f.Size()}
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && b.left > 0 {
		b.err = fmt.Errorf("reading file with %d bytes to go: %w", b.left, err)
		return n, b.err
	}
	return n, nil
}

// transfer is how one file goes to a client whose socket is open.
type transfer struct {
	sock    *net.UDPConn
	file    File
	answer  []option // the options to acknowledge
	block   int
	timeout time.Duration
	retries int
	moved   *atomic.Bool // set once the client confirmed something
}

// result is what became of a transfer.
type result struct {
	outcome Outcome
	err     error
	bytes   int64
	retries int
}

// run sends the file in lock-step and returns when the client has it, gave
// up or is gone, or ctx is over. It is pin/tftp that sends and waits.
func (t transfer) run(ctx context.Context) result {
	b := newBody(t.file)
	request := append([]byte{0, opRead}, "file\x00octet\x00"...)
	if len(t.answer) > 0 {
		// Whatever was asked: with this option the library waits for an
		// acknowledgement before the first block.
		request = append(request, "blksize\x00"+strconv.Itoa(t.block)+"\x00"...)
	}
	l := &link{
		sock: t.sock, peer: t.sock.RemoteAddr().(*net.UDPAddr), oack: packOAck(t.answer),
		retries: t.retries, moved: t.moved, request: request,
		sent: make(chan struct{}, 1), over: make(chan struct{}),
		// Asked by the library's sender, which is also the one to read b.
		bodyFail: func() error { return b.err },
	}
	stop := context.AfterFunc(ctx, l.stop)
	defer stop()

	sent := make(chan error, 1)
	server := pin.NewServer(func(_ string, rf io.ReaderFrom) error {
		_, err := rf.ReadFrom(b)
		sent <- err
		return nil // ReadFrom has ended the transfer in any case
	}, nil)
	server.SetBlockSize(t.block)
	server.SetBlockSizeNegotiation(false) // done, with the header counted
	server.EnableSinglePort()
	server.SetTimeout(t.timeout)
	server.SetRetries(math.MaxInt) // the link gives up
	server.SetBackoff(func(int) time.Duration { return 0 })
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	err := <-sent
	server.Shutdown()
	return t.judge(ctx, l, b, errors.Join(err, <-served))
}

func (t transfer) judge(ctx context.Context, l *link, b *body, err error) result {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := result{outcome: OK, bytes: min(l.acked*int64(t.block), t.file.Size()), retries: l.resent}
	switch {
	case err == nil:
	case l.quit != nil && l.acked == 0:
		// The firmware's way to ask whether a file is there.
		r.outcome = EarlyTerminate
	case l.quit != nil:
		r.outcome, r.err = Aborted, fmt.Errorf("client sent error %d: %q", l.quit.code, l.quit.message)
	case b.err != nil:
		r.outcome, r.err = Failed, b.err
	case l.gone != nil:
		r.outcome, r.err = Aborted, l.gone
	case ctx.Err() != nil:
		r.outcome, r.err = stopOutcome(ctx), context.Cause(ctx)
	default:
		r.outcome, r.err = Timeout, fmt.Errorf("no answer to block %d after %d tries", l.block, t.retries+1)
	}
	return r
}

var (
	errSuperseded = errors.New("client started anew")
	errStopped    = errors.New("server stopped")
)

// stopOutcome says why ctx is over.
func stopOutcome(ctx context.Context) Outcome {
	if errors.Is(context.Cause(ctx), errSuperseded) {
		return Superseded
	}
	return Stopped
}
