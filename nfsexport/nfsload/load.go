package nfsload

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load is what is asked of a server: calls of one kind.
type Load struct {
	// Calls of each connection (of connection i: Calls[i modulo their number]), which
	// are made over and over, or with Once each once.
	Calls [][]Call
	Once  bool
	// Check judges an answer by its front, of 512 bytes at least unless it is
	// shorter; nil: it must be accepted, with status 0.
	Check func(*Reply) error
}

// look is how much of each answer is looked at.
const look = 512

// Result is what came of a Load.
type Result struct {
	Calls    int
	Elapsed  time.Duration
	P50, P99 time.Duration // from a call's making to its whole answer
	Bytes    int64         // of answers, with all headers
}

var errStatus = errors.New("the call was not accepted, or failed")

// Run makes the calls of l for so long over all connections at once, each with
// so many in flight; with Once all of them.
func Run(conns []*Conn, window int, l *Load, d time.Duration) (*Result, error) {
	check := l.Check
	if check == nil {
		check = func(r *Reply) error {
			if !r.Accepted || r.Status() != 0 {
				return errStatus
			}
			return nil
		}
	}
	var over atomic.Bool
	if !l.Once {
		timer := time.AfterFunc(d, func() { over.Store(true) })
		defer timer.Stop()
	}
	times := make([][]time.Duration, len(conns))
	sizes := make([]int64, len(conns))
	errs := make([]error, len(conns))
	begin := time.Now()
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			calls, n := l.Calls[i%len(l.Calls)], 0
			_, errs[i] = c.pump(window, look, func() Call {
				if over.Load() {
					return nil
				}
				if n == len(calls) {
					if l.Once {
						return nil
					}
					n = 0
				}
				n++
				return calls[n-1]
			}, func(r *Reply, took time.Duration) error {
				times[i] = append(times[i], took)
				sizes[i] += int64(r.Size)
				return check(r)
			})
			if errs[i] != nil {
				over.Store(true)
			}
		})
	}
	all.Wait()
	res := &Result{Elapsed: time.Since(begin)}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	sorted := slices.Concat(times...)
	slices.Sort(sorted)
	if res.Calls = len(sorted); res.Calls > 0 {
		res.P50, res.P99 = sorted[res.Calls/2], sorted[res.Calls*99/100]
	}
	for _, n := range sizes {
		res.Bytes += n
	}
	return res, nil
}
