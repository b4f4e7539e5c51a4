package nfsexport

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Activity is what a server saw of one export. All fields are written by the
// server and read by others without a lock.
type Activity struct {
	// LastCall is the time of the last call, in nanoseconds of the Unix clock;
	// 0: none since this process started. It may lag by a second.
	LastCall atomic.Int64
	// Calls counts the calls.
	Calls atomic.Uint64
	// InitRead is the time of the last READ at offset 0 of Export.Init, in
	// nanoseconds of the Unix clock; 0: none since this process started.
	InitRead atomic.Int64
	// BytesRead and BytesWritten count the data of READ and WRITE.
	BytesRead, BytesWritten atomic.Uint64
	// Refused counts calls that carried a good handle of this export but came
	// from a peer that is not allowed.
	Refused atomic.Uint64
	// procedures has a record for each NFSv3 procedure that was called, made at
	// its first call.
	procedures [maxProcedures]atomic.Pointer[procedure]
}

// maxProcedures is the number of procedures of NFS version 3 (RFC 1813 section 3).
const maxProcedures = 22

// The scale of a procedure's histogram: from firstBucket on, each power of two
// of nanoseconds has perOctave buckets of one width, so that a quantile is told
// to within a quarter. What is slower than 73 minutes counts as that.
const (
	firstBits   = 10
	firstBucket = time.Duration(1 << firstBits)
	octaves     = 32
	perOctave   = 4
)

// procedure is what was seen of one procedure. Times of one mostly differ by a few powers
// of two: so the buckets are in spans, each made when the first time falls into it, and
// an export takes 10 KiB and not 24, which it takes at most.
type procedure struct {
	calls, errors atomic.Uint64
	total, worst  atomic.Int64 // nanoseconds
	first         atomic.Uint64
	spans         [octaves * perOctave / spanLen]atomic.Pointer[span]
}

// span is buckets one behind the other.
type span [spanLen]atomic.Uint64

const spanLen = 4 * perOctave

// bucket is where times of bucket n are counted.
func (p *procedure) bucket(n int) *atomic.Uint64 {
	if n == 0 {
		return &p.first
	}
	at := &p.spans[uint(n-1)/spanLen]
	s := at.Load()
	if s == nil {
		s = made(at)
	}
	return &s[uint(n-1)%spanLen]
}

// count is how many times are in bucket n.
func (p *procedure) count(n int) uint64 {
	if n == 0 {
		return p.first.Load()
	}
	s := p.spans[(n-1)/spanLen].Load()
	if s == nil {
		return 0
	}
	return s[(n-1)%spanLen].Load()
}

// made makes what at is to point to, unless another call was first.
func made[T any](at *atomic.Pointer[T]) *T {
	at.CompareAndSwap(nil, new(T))
	return at.Load()
}

// Note counts one answered call of a procedure: how long it took, and whether
// its answer was an error. It does not allocate but for the first calls of each.
func (a *Activity) Note(number uint32, took time.Duration, failed bool) {
	if number >= maxProcedures {
		return
	}
	p := a.procedures[number].Load()
	if p == nil {
		p = made(&a.procedures[number])
	}
	p.calls.Add(1)
	if failed {
		p.errors.Add(1)
	}
	p.total.Add(int64(took))
	for worst := p.worst.Load(); int64(took) > worst; worst = p.worst.Load() {
		if p.worst.CompareAndSwap(worst, int64(took)) {
			break
		}
	}
	p.bucket(bucketOf(took)).Add(1)
}

// bucketOf is the bucket that a time is counted in; bucket 0 has all below
// firstBucket.
func bucketOf(d time.Duration) int {
	if d < firstBucket {
		return 0
	}
	n := uint64(d)
	octave := bits.Len64(n) - 1 - firstBits
	if octave >= octaves {
		return octaves * perOctave
	}
	begin := uint64(1) << (firstBits + octave)
	return 1 + octave*perOctave + int((n-begin)*perOctave/begin)
}

// edge is the time at which a bucket ends.
func edge(bucket int) time.Duration {
	if bucket == 0 {
		return firstBucket
	}
	octave, part := (bucket-1)/perOctave, (bucket-1)%perOctave
	return firstBucket << octave / perOctave * time.Duration(perOctave+part+1)
}

// Figures are what was seen of one procedure so far.
type Figures struct {
	Procedure     uint32
	Calls, Errors uint64
	// Total is the sum of all times, Worst the longest one. P50, P90 and P99 are
	// the times within which that many of a hundred calls ended, rounded up by
	// a quarter at most.
	Total, Worst, P50, P90, P99 time.Duration
}

// Figures gives what was seen of every procedure that was called, by number.
// Calls that end meanwhile may be counted in one figure and not yet in another.
func (a *Activity) Figures() []Figures {
	var out []Figures
	for n := range a.procedures {
		p := a.procedures[n].Load()
		if p == nil {
			continue
		}
		f := Figures{
			Procedure: uint32(n), Calls: p.calls.Load(), Errors: p.errors.Load(),
			Total: time.Duration(p.total.Load()), Worst: time.Duration(p.worst.Load()),
		}
		var counts [1 + octaves*perOctave]uint64
		var sum uint64
		for i := range counts {
			counts[i] = p.count(i)
			sum += counts[i]
		}
		for q, to := range map[uint64]*time.Duration{50: &f.P50, 90: &f.P90, 99: &f.P99} {
			*to = min(quantile(counts[:], sum, q), max(f.Worst, firstBucket))
		}
		out = append(out, f)
	}
	return out
}

// quantile is the edge of the bucket in which the given part of a hundred ends.
func quantile(counts []uint64, sum, percent uint64) time.Duration {
	var seen uint64
	for i, n := range counts {
		if seen += n; seen > 0 && seen*100 >= sum*percent {
			return edge(i)
		}
	}
	return 0
}
