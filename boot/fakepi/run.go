package fakepi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"rubus/boot/fakepi/nic"
)

// Options are what a boot needs beside the board.
type Options struct {
	// Link is the board's network card. It must be open and is not closed.
	Link nic.Link
	// Patience stretches the firmware's waiting times; 0 means 1.
	Patience float64
	// Rand makes transaction ids and ports; nil: seeded at random.
	Rand *rand.Rand
	// Files, when not nil, is read in place of a server's files: there is no
	// Link then, and no DHCP. What is not there is fs.ErrNotExist.
	Files func(name string) ([]byte, error)
	// Discard keeps nothing of the large files, for many boards at once.
	Discard bool
	// Observe, when not nil, is told every event as it happens.
	Observe func(Event)
}

// Run plays the board's firmware from power-on until it would start a kernel.
// The result holds the events also when err is not nil; then err is a *StopError.
func Run(ctx context.Context, b Board, opt Options) (*Result, error) {
	if opt.Patience == 0 {
		opt.Patience = 1
	}
	if opt.Rand == nil {
		opt.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	r := &run{
		board: b, opt: opt, res: &Result{Board: b}, start: time.Now(),
	}
	if opt.Files == nil {
		r.stack = nic.NewStack(opt.Link, b.MAC)
	}
	for _, s := range b.stages {
		if err := r.stage(ctx, s); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			stop := &StopError{Stage: s.name, Step: r.step, Err: err}
			r.event(Event{Kind: KindStop, Text: stop.Error()})
			return r.res, stop
		}
	}
	return r.res, nil
}

// run is one boot.
type run struct {
	board Board
	opt   Options
	res   *Result
	stack *nic.Stack
	start time.Time

	// now is the stage that runs, and step what it is doing, for errors.
	now  stage
	step string
	// port is the source port of the next file.
	port uint16
	boot bootState
	// discard is whether the next file's data is let go, and size that of the
	// last one.
	discard bool
	size    int64
}

func (r *run) stage(ctx context.Context, s stage) error {
	r.now = s
	if r.stack != nil {
		r.stack.Silent, r.stack.Checksum = s.silentARP, s.checksum
	}
	if !s.tftp.keepPort {
		r.port = s.tftp.port
		if r.port == 0 {
			r.port = uint16(0x4000 + r.opt.Rand.IntN(0x4000))
		}
	}
	if s.dhcp != nil && r.stack != nil {
		r.step = "at DHCP"
		if err := r.dhcp(ctx, s.dhcp); err != nil {
			return err
		}
	}
	for _, st := range s.steps {
		r.step = "at " + st.name
		if err := st.do(r, ctx); err != nil {
			return err
		}
	}
	return nil
}

// get reads or probes one file and records how that went. A file that is not
// there is ErrMissing.
func (r *run) get(ctx context.Context, name string, probe, expectMissing bool) ([]byte, error) {
	t := &transfer{
		stack: r.stack, style: r.now.tftp, patience: r.patience,
		server: r.res.Server, port: r.port, name: name, probe: probe, discard: r.discard,
	}
	// Ports stay in the range the firmware counts in.
	if r.port++; r.port == 0 {
		r.port = 49152
	}
	begin := time.Now()
	var err error
	if r.opt.Files != nil {
		err = t.plan(r.opt.Files)
	} else {
		err = t.run(ctx)
	}
	e := Event{
		Kind: KindRead, From: r.res.Server, File: name, Size: t.got,
		Took: time.Since(begin), Retries: t.retries, Outcome: Found,
	}
	if probe {
		e.Kind, e.Size = KindProbe, max(t.size, 0)
	}
	switch {
	case errors.Is(err, ErrMissing):
		e.Outcome = Missing
		if expectMissing {
			e.Outcome = Expected
		}
		// "File not found" needs no words.
		if m, ok := errors.AsType[*missing](err); !ok || m.code != 1 {
			e.Text = err.Error()
		}
	case err != nil:
		e.Outcome, e.Text = Failed, err.Error()
	}
	r.res.Files++
	r.res.Bytes += t.got
	r.res.Blocks += max(t.packets, 1)
	r.event(e)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	r.size = t.got
	return t.data, nil
}

func (r *run) event(e Event) {
	e.At = time.Since(r.start) - e.Took
	e.Stage = r.now.name
	r.res.Events = append(r.res.Events, e)
	if r.opt.Observe != nil {
		r.opt.Observe(e)
	}
}

func (r *run) note(format string, a ...any) {
	r.event(Event{Kind: KindNote, Text: fmt.Sprintf(format, a...)})
}

func (r *run) patience(d time.Duration) time.Duration {
	return time.Duration(float64(d) * r.opt.Patience)
}

// sleepUntil waits while answering ARP.
func (r *run) sleepUntil(ctx context.Context, t time.Time) error {
	for time.Now().Before(t) {
		if _, err := r.stack.Receive(ctx, t); err != nil && !errors.Is(err, nic.ErrTimeout) {
			return err
		}
	}
	return ctx.Err()
}

// prefixed is a file's name as the board asks for it.
func (r *run) prefixed(name string) string { return r.res.Prefix + strings.TrimPrefix(name, "/") }
