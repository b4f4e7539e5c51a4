package tftp

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// transfer is how one file goes to a client.
type transfer struct {
	lane   *lane
	file   File
	answer []option // the options to acknowledge
	block  int
	// wrap is the number of the block after number 65535.
	wrap   uint16
	flight flight
	// overtaken is set once the client asked for another file.
	overtaken *atomic.Bool
	disk      func(n int) // Server.Waits
}

// result is what became of a transfer.
type result struct {
	outcome Outcome
	err     error
}

// run sends the file in lock-step (RFC 1350, section 2) and returns when the
// client has it, gave up or is gone, or ctx is over.
func (t *transfer) run(ctx context.Context) result {
	f := &t.flight
	t.lane.add(f)
	defer t.lane.remove(f)
	file := newReader(t.file, t.block, t.wrap)
	b, err := single(packOAck(t.answer)), error(nil) // it is confirmed as block 0 (RFC 2347)
	if len(t.answer) == 0 {
		b, err = t.read(file)
	}
	for ; ; b, err = t.read(file) {
		if err != nil {
			t.lane.sendError(f.to, codeUndefined, "Read error")
			return result{Failed, err}
		}
		if err := t.lane.deliver(ctx, f, b, file); err != nil {
			return t.judge(ctx, err)
		}
		if file.ended {
			return result{outcome: OK}
		}
	}
}

// read reads on. What is in memory the lane has sent.
func (t *transfer) read(file *reader) (burst, error) {
	t.disk(1)
	defer t.disk(-1)
	return file.next()
}

// judge says what an error makes of the transfer.
func (t *transfer) judge(ctx context.Context, err error) result {
	f := &t.flight
	t.lane.mu.Lock()
	defer t.lane.mu.Unlock()
	switch {
	case errors.Is(err, errQuit) && f.bytes == 0:
		// The firmware's way to ask whether a file is there.
		return result{outcome: EarlyTerminate}
	case errors.Is(err, errQuit):
		return result{Aborted, fmt.Errorf("client sent error %d: %q", f.quit.code, f.quit.message)}
	case errors.Is(err, errNobody) && f.ends && f.moved.Load():
		// Who acknowledges the last block need not stay to do it again (RFC 1350,
		// section 6): it is more likely there than not.
		return result{OK, errors.New("the last block was not confirmed")}
	case errors.Is(err, errNobody) && f.number == 0 && t.overtaken.Load():
		// It knew enough, and its word of that was lost.
		return result{outcome: EarlyTerminate}
	case errors.Is(err, errNobody):
		return result{Timeout, fmt.Errorf("no answer to block %d within %s", f.number, t.lane.silence)}
	case ctx.Err() != nil:
		return result{stopOutcome(ctx), context.Cause(ctx)}
	}
	return result{Failed, err}
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
