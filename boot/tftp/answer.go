package tftp

import (
	"context"
	"errors"
	"time"
)

// answer serves one admitted request.
func (r *running) answer(ctx context.Context, event Event, start time.Time, req request, at arrival, t *active) {
	refuse := func(outcome Outcome, code byte, message string, err error) {
		r.end(event, start, outcome, errors.Join(err, sendError(ctx, event.Request, code, message)))
	}
	if !r.Known(ctx, event.Request.Client.Addr()) {
		r.end(event, start, Silent, nil)
		return
	}
	switch {
	case req.op == opWrite:
		refuse(Refused, codeAccess, "Read only", errors.New("write request"))
		return
	case req.mode != "octet":
		// Line ends of netascii would change the size that tsize announces.
		refuse(Refused, codeIllegal, "Use octet mode", errors.New("mode is not octet"))
		return
	}
	file, err := r.Handler.Open(ctx, event.Request)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		r.end(event, start, stopOutcome(ctx), context.Cause(ctx))
		return
	case errors.Is(err, ErrSilent):
		r.end(event, start, Silent, err)
		return
	case errors.Is(err, ErrNotFound):
		refuse(NotFound, codeNotFound, "File not found", nil)
		return
	case errors.Is(err, ErrRefused):
		refuse(Refused, codeAccess, "Access violation", err)
		return
	default:
		refuse(Failed, codeUndefined, "Not available", err)
		return
	}
	defer file.Close()
	w, err := dial(ctx, at.local, event.Request.Client)
	if err != nil {
		r.end(event, start, Failed, err)
		return
	}
	defer w.close()
	event.Size = file.Size()
	answer, block := negotiate(req.options, event.Size, r.mtu(w, at)-blockOverhead)
	event.Block = block
	tr := transfer{
		wire: w, file: file, answer: answer, block: block, silence: r.Silence, moved: &t.moved,
		limits: limits{r.FirstWait, r.LeastWait, r.MostWait}, waits: r.known(event.Request.Client.Addr()),
	}
	res := tr.run(ctx)
	r.remember(event.Request.Client.Addr(), tr.waits)
	event.Bytes, event.Retries, event.RTT = tr.bytes, tr.resent, tr.waits.smooth
	r.end(event, start, res.outcome, res.err)
}

func (r *running) mtu(w *udpWire, at arrival) int {
	if r.MTU != nil {
		return r.MTU(at.interf)
	}
	return w.mtu()
}

// sendError sends one ERROR, from a port of its own as a transfer would.
func sendError(ctx context.Context, r Request, code byte, message string) error {
	w, err := dial(ctx, r.Server, r.Client)
	if err != nil {
		return err
	}
	defer w.close()
	w.send(packError(code, message))
	return nil
}

// end reports a request that is over.
func (r *running) end(e Event, start time.Time, outcome Outcome, err error) {
	e.Outcome, e.Err, e.Duration = outcome, err, time.Since(start)
	attrs := []any{
		"client", e.Request.Client.String(), "path", e.Request.Path, "outcome", string(outcome),
		"bytes", e.Bytes, "duration", e.Duration, "retries", e.Retries, "rtt", e.RTT,
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	switch outcome {
	case Failed, Timeout:
		r.Logger.Warn("TFTP read", attrs...)
	default:
		r.Logger.Debug("TFTP read", attrs...)
	}
	r.Observe(e)
}
