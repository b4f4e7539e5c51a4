package dhcplink

import (
	"hash/maphash"
	"sync"
	"time"

	"rubus/config/device"
)

// Limits bound what a flood of requests makes the server do. A zero field
// takes its default.
type Limits struct {
	// PerBoard requests of one MAC are looked at in one go (default 8), then
	// one every BoardEvery (default 1 s).
	PerBoard   int
	BoardEvery time.Duration
	// Total requests are answered in one go (default 4096: a thousand boards that get
	// power together have four each), then one every TotalEvery (default 5 ms).
	Total      int
	TotalEvery time.Duration
	// Pending boards at most wait for a delayed OFFER (default 1024); further
	// ones are answered at once and once.
	Pending int
}

// WithDefaults is l with the defaults filled in.
func (l Limits) WithDefaults() Limits {
	pick := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	every := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	pick(&l.PerBoard, 8)
	every(&l.BoardEvery, time.Second)
	pick(&l.Total, 4096)
	every(&l.TotalEvery, 5*time.Millisecond)
	pick(&l.Pending, 1024)
	return l
}

// Limiter is a token bucket for all boards together and one for each. Boards
// share buckets by a hash that nobody outside can compute, so its memory is
// constant whatever addresses a flood makes up.
type Limiter struct {
	limits Limits
	seed   maphash.Seed

	mu     sync.Mutex
	total  time.Time
	boards [4096]time.Time
}

// NewLimiter makes a Limiter.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l.WithDefaults(), seed: maphash.MakeSeed()}
}

// Board takes one request of a MAC.
func (l *Limiter) Board(mac device.MAC, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := maphash.Bytes(l.seed, mac[:]) % uint64(len(l.boards))
	return take(&l.boards[slot], now, l.limits.PerBoard, l.limits.BoardEvery)
}

// Answer takes one answer of all.
func (l *Limiter) Answer(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return take(&l.total, now, l.limits.Total, l.limits.TotalEvery)
}

// take is the generic cell rate algorithm: full is when the bucket will be
// full again, and each token pushes it back by one interval.
func take(full *time.Time, now time.Time, burst int, every time.Duration) bool {
	if full.Before(now) {
		*full = now
	}
	if full.Sub(now) > time.Duration(burst-1)*every {
		return false
	}
	*full = full.Add(every)
	return true
}
