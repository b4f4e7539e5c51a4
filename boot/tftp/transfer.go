package tftp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// transfer is how one file goes to a client.
type transfer struct {
	wire   wire
	file   File
	answer []option // the options to acknowledge
	block  int
	limits limits
	// silence is how long the client may say nothing to a packet.
	silence time.Duration
	moved   *atomic.Bool // set once the client confirmed something
	// waits is what is known of the client, and is kept up to date.
	waits waits

	in     []byte
	quit   *reply // the client's ERROR
	bytes  int64  // confirmed
	resent int
}

// result is what became of a transfer.
type result struct {
	outcome Outcome
	err     error
}

// run sends the file in lock-step (RFC 1350, section 2) and returns when the
// client has it, gave up or is gone, or ctx is over.
func (t *transfer) run(ctx context.Context) result {
	stop := context.AfterFunc(ctx, t.wire.interrupt)
	defer stop()
	t.in = make([]byte, maxReply)
	if len(t.answer) > 0 {
		// It is confirmed as block 0 (RFC 2347).
		if err := t.confirmed(packOAck(t.answer), 0); err != nil {
			return t.judge(ctx, err, 0)
		}
	}
	blocks := newBlocks(t.file, t.block)
	// After 65535 comes 0: the firmware that counts so far wants it so.
	for number := uint16(1); ; number++ {
		packet, err := blocks.next(number)
		if err != nil {
			t.wire.send(packError(codeUndefined, "Read error"))
			return result{Failed, err}
		}
		if err := t.confirmed(packet, number); err != nil {
			return t.judge(ctx, err, number)
		}
		t.bytes += int64(len(packet) - headerSize)
		if len(packet) < headerSize+t.block {
			return result{outcome: OK}
		}
	}
}

var (
	errQuit   = errors.New("client sent an error")
	errNobody = errors.New("client says nothing")
)

// confirmed sends one packet, as often as it takes, until the client
// acknowledges it. Acknowledgements of other blocks change nothing: answered
// with a packet they would double all that follow (RFC 1123, 4.2.3.1).
func (t *transfer) confirmed(packet []byte, number uint16) error {
	begin := time.Now()
	deadline := begin.Add(t.waits.next(t.limits))
	out, again := packet, false
	for {
		n, err := t.wire.exchange(out, t.in, again, deadline)
		out = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			now := time.Now()
			if now.Sub(begin) >= t.silence {
				return errNobody
			}
			t.waits.expired(t.limits)
			// The last wait ends with the client's time.
			deadline = earlier(now.Add(t.waits.next(t.limits)), begin.Add(t.silence))
			out, again = packet, true
			t.resent++
			continue
		}
		if err != nil {
			return err
		}
		r, ok := parseReply(t.in[:n])
		switch {
		case !ok:
		case r.op == opError:
			t.quit = &r
			return errQuit
		case r.block == number:
			if !again {
				t.waits.measured(time.Since(begin), t.limits)
			}
			t.moved.Store(true)
			return nil
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// judge says what an error of the given block makes of the transfer.
func (t *transfer) judge(ctx context.Context, err error, number uint16) result {
	switch {
	case errors.Is(err, errQuit) && t.bytes == 0:
		// The firmware's way to ask whether a file is there.
		return result{outcome: EarlyTerminate}
	case errors.Is(err, errQuit):
		return result{Aborted, fmt.Errorf("client sent error %d: %q", t.quit.code, t.quit.message)}
	case errors.Is(err, errNobody):
		return result{Timeout, fmt.Errorf("no answer to block %d within %s", number, t.silence)}
	case ctx.Err() != nil:
		return result{stopOutcome(ctx), context.Cause(ctx)}
	}
	return result{Aborted, err}
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
