// Package lograte keeps any one log message from drowning the others: what a
// hostile neighbour provokes is counted, not written down line by line.
package lograte

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"
)

// Suppressed is the attribute of a line that tells how many lines with the same
// message were left out since the one before it.
const Suppressed = "suppressed"

// Limit is how often one message may be logged.
type Limit struct {
	PerSecond float64  // in the long run
	Burst     int      // at once, after some quiet
	Except    []string // messages that are never left out
}

// handler passes lines on, as often as the limit allows for each message.
// Loggers made of one another by With share their counts: they share messages.
type handler struct {
	next   slog.Handler
	limit  Limit
	counts *counts
}

// counts has a bucket for each message. Messages are constants of the program,
// what comes from the wire is in attributes, so their number is bounded.
type counts struct {
	mu      sync.Mutex
	buckets map[string]*bucket // guarded by mu
}

type bucket struct {
	limiter *rate.Limiter
	missed  int
}

// New makes a handler that passes to next what the limit allows. Lines are
// judged by their own times, so that a test needs no clock.
func New(next slog.Handler, l Limit) slog.Handler {
	return &handler{next: next, limit: l, counts: &counts{buckets: map[string]*bucket{}}}
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	missed, ok := h.admit(&r)
	if !ok {
		return nil
	}
	if missed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int(Suppressed, missed))
	}
	return h.next.Handle(ctx, r)
}

// admit says whether a line may be logged, and how many like it were not.
func (h *handler) admit(r *slog.Record) (missed int, ok bool) {
	for _, m := range h.limit.Except {
		if r.Message == m {
			return 0, true
		}
	}
	h.counts.mu.Lock()
	defer h.counts.mu.Unlock()
	b := h.counts.buckets[r.Message]
	if b == nil {
		b = &bucket{limiter: rate.NewLimiter(rate.Limit(h.limit.PerSecond), h.limit.Burst)}
		h.counts.buckets[r.Message] = b
	}
	if !b.limiter.AllowN(r.Time, 1) {
		b.missed++
		return 0, false
	}
	missed, b.missed = b.missed, 0
	return missed, true
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{next: h.next.WithAttrs(attrs), limit: h.limit, counts: h.counts}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{next: h.next.WithGroup(name), limit: h.limit, counts: h.counts}
}
