package tftp

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// answer serves one admitted request.
func (r *running) answer(ctx context.Context, event Event, start time.Time, req request, at arrival, t *active) {
	refuse := func(outcome Outcome, code byte, message string, err error) {
		r.end(event, start, outcome, errors.Join(err, r.sendError(event.Request, code, message)))
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
	lane, err := r.lane(at.local)
	if err != nil {
		r.end(event, start, Failed, err)
		return
	}
	event.Size = file.Size()
	most := r.mtu(at.interf) - blockOverhead
	if r.MaxBlock > 0 {
		most = min(most, r.MaxBlock)
	}
	asked := req.options
	if r.Plain != nil && r.Plain(req.path) {
		asked = nil
	}
	answer, block := negotiate(asked, event.Size, most)
	event.Block = block
	client := event.Request.Client
	tr := transfer{
		lane: lane, file: file, answer: answer, block: block, wrap: r.AfterLast, overtaken: &t.overtaken, disk: r.Waits,
		flight: flight{to: client, moved: &t.moved, waits: r.known(client.Addr())},
	}
	res := tr.run(ctx)
	f := &tr.flight // nobody else has it any more
	r.remember(client.Addr(), f.waits)
	event.Bytes, event.Retries, event.RTT = f.bytes, f.resent, f.waits.smooth
	r.end(event, start, res.outcome, res.err)
}

// lane is the one for an address of the host's; it is made at the first request.
func (r *running) lane(local netip.Addr) (*lane, error) {
	r.lanesMu.Lock()
	defer r.lanesMu.Unlock()
	if l := r.lanes[local]; l != nil && l.isOpen() {
		return l, nil
	}
	sock, err := newUDPSocket(local)
	if err != nil {
		return nil, err
	}
	l := newLane(sock, r.limits(), r.Silence)
	r.lanes[local] = l
	r.lanesRun.Go(l.run)
	return l, nil
}

// closeLanes ends what lane made. No transfer is left.
func (r *running) closeLanes() {
	r.lanesMu.Lock()
	for _, l := range r.lanes {
		l.close()
	}
	r.lanesMu.Unlock()
	r.lanesRun.Wait()
}

func (r *running) mtu(index int) int {
	if r.MTU != nil {
		return r.MTU(index)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.links.mtu(index, time.Now())
}

// sendError sends one ERROR, from where a transfer would come.
func (r *running) sendError(to Request, code byte, message string) error {
	l, err := r.lane(to.Server)
	if err != nil {
		return err
	}
	l.sendError(to.Client, code, message)
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
