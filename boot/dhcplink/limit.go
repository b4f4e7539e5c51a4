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

// Limiter is a token bucket for all boards together and two for each. Boards share
// these by a hash that nobody outside can compute, so its memory is constant whatever
// addresses a flood makes up. A board takes from both of its own and is refused when both are
// empty: of a thousand boards that come together none has to do without for others
// with the same bucket.
type Limiter struct {
	limits Limits
	seed   maphash.Seed

	mu     sync.Mutex
	began  time.Time // the first request
	total  bucket
	boards [1 << 14]bucket
}

// NewLimiter makes a Limiter.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l.WithDefaults(), seed: maphash.MakeSeed()}
}

// Board takes one request of a MAC.
func (l *Limiter) Board(mac device.MAC, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, h := l.since(now), maphash.Bytes(l.seed, mac[:])
	a, b := &l.boards[h%uint64(len(l.boards))], &l.boards[h>>32%uint64(len(l.boards))]
	burst, every := l.limits.PerBoard, l.limits.BoardEvery
	if !a.has(at, burst, every) && !b.has(at, burst, every) {
		return false
	}
	a.take(at, burst, every)
	if b != a {
		b.take(at, burst, every)
	}
	return true
}

// Answer takes one answer of all.
func (l *Limiter) Answer(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.since(now)
	if !l.total.has(at, l.limits.Total, l.limits.TotalEvery) {
		return false
	}
	l.total.take(at, l.limits.Total, l.limits.TotalEvery)
	return true
}

// since is now as buckets have it.
func (l *Limiter) since(now time.Time) time.Duration {
	if l.began.IsZero() {
		l.began = now
	}
	return now.Sub(l.began)
}

// bucket is one of the generic cell rate algorithm: the time, since the Limiter began, when it
// will be full again.
type bucket time.Duration

// has says whether there is a token in it.
func (b bucket) has(now time.Duration, burst int, every time.Duration) bool {
	return time.Duration(b)-now <= time.Duration(burst-1)*every
}

// take takes a token: it will be full an interval later. An empty one stays so.
func (b *bucket) take(now time.Duration, burst int, every time.Duration) {
	*b = bucket(min(max(time.Duration(*b), now)+every, now+time.Duration(burst)*every))
}
