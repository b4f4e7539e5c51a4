package dhcplink

import (
	"sync"
	"time"

	"rubus/config/device"
)

// Repeats sends an answer to a board at given times after its request. A board
// has one request: a newer one ends what the former left to do.
type Repeats struct {
	clock Clock
	max   int

	mu      sync.Mutex
	pending map[device.MAC]*series
	closed  bool
}

// series are the answers to one board that are still to come.
type series struct {
	left int
	stop []func() bool
}

// NewRepeats makes Repeats for at most limit boards at once (Limits.Pending);
// further ones are answered at once and once.
func NewRepeats(clock Clock, limit int) *Repeats {
	return &Repeats{clock: clock, max: limit, pending: map[device.MAC]*series{}}
}

// Do calls send after each of the delays; again is false for the first one. A
// delay of zero is now, in this goroutine; the others have one each.
func (r *Repeats) Do(mac device.MAC, delays []time.Duration, send func(again bool)) {
	r.mu.Lock()
	r.drop(mac)
	var later []time.Duration
	for _, d := range delays {
		if d > 0 {
			later = append(later, d)
		}
	}
	now := len(later) < len(delays)
	if len(r.pending) >= r.max {
		now, later = true, nil
	}
	if len(later) > 0 && !r.closed {
		s := &series{left: len(later)}
		r.pending[mac] = s
		for i, d := range later {
			again := now || i > 0
			s.stop = append(s.stop, r.clock.AfterFunc(d, func() {
				if r.take(mac, s) {
					send(again)
				}
			}))
		}
	}
	r.mu.Unlock()
	if now {
		send(false)
	}
}

// take says whether one more answer of a series is still wanted.
func (r *Repeats) take(mac device.MAC, s *series) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.pending[mac] == s && !r.closed
	if s.left--; current && s.left == 0 {
		delete(r.pending, mac)
	}
	return current
}

// Drop ends what a board's last request left to do.
func (r *Repeats) Drop(mac device.MAC) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(mac)
}

// drop is Drop with r.mu held.
func (r *Repeats) drop(mac device.MAC) {
	if s := r.pending[mac]; s != nil {
		for _, stop := range s.stop {
			stop()
		}
		delete(r.pending, mac)
	}
}

// Pending is how many boards have answers to come.
func (r *Repeats) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending)
}

// Close ends all that is still to be sent.
func (r *Repeats) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for mac := range r.pending {
		r.drop(mac)
	}
}
