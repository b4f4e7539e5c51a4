package nfsload

import (
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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

// grain is the least time between calls of a paced load: those of less come together.
// To wait for each alone would take a processor, which the server is to have.
const grain = 250 * time.Microsecond

// look is how much of each answer is looked at.
const look = 512

// Result is what came of a Load.
type Result struct {
	Calls    int
	Elapsed  time.Duration
	P50, P99 time.Duration // until the whole answer is here
	Bytes    int64         // of answers, with all headers
	// CPU is what this side took of a processor.
	CPU time.Duration
	// First: Pace ran before all else that wants a processor.
	First bool
}

var errStatus = errors.New("the call was not accepted, or failed")

// Run makes the calls of l for so long over all connections at once, each with so many
// in flight; with Once all of them. The load is closed: a call is made when another is
// answered, and its time counts from then. So a server is asked for as much as it can do,
// and shares the processors with a load that has as much to do: what a call waits for
// these is in its time.
func Run(conns []*Conn, window int, l *Load, d time.Duration) (*Result, error) {
	over := func(now time.Duration) bool { return !l.Once && now >= d }
	next := l.turns(len(conns))
	return l.run(false, driver{
		conns: conns, window: window,
		next: func(i int, now time.Duration) (Call, time.Duration) {
			if over(now) {
				return nil, 0
			}
			return next(i), now
		},
	})
}

// Pace makes the calls of l for so long at so many a second, whether others are answered
// or not, at even distances and by turns over the connections; with Once all of them. The
// time of a call counts from when it is due: if it cannot be sent then, as window of its
// connection are in flight, its wait is the server's doing.
//
// It runs before all else that wants a processor, if it may (sched(7)), as a client's
// machine would be there, too, while the server works: its calls are in time, and answers
// are taken when they come. It is for rates that leave the server a processor.
func Pace(conns []*Conn, window int, rate float64, l *Load, d time.Duration) (*Result, error) {
	next := l.turns(len(conns))
	made := make([]int, len(conns)) // of each
	due := func(i int) time.Duration {
		at := time.Duration(float64(made[i]*len(conns)+i) / rate * float64(time.Second)).Truncate(grain)
		if at >= d && !l.Once {
			return never
		}
		return at
	}
	ended := make([]bool, len(conns))
	return l.run(true, driver{
		conns: conns, window: window,
		next: func(i int, now time.Duration) (Call, time.Duration) {
			at := due(i)
			if at > now || ended[i] {
				return nil, 0
			}
			call := next(i)
			ended[i] = call == nil
			made[i]++
			return call, at
		},
		soon: func() time.Duration {
			at := never
			for i, c := range conns {
				if len(c.free) > 0 && !ended[i] {
					at = min(at, due(i))
				}
			}
			return at
		},
	})
}

// Meanwhile makes the calls of l over all connections at once, each with so many in
// flight, over and over for as long as f runs, which begins when each connection has had an
// answer. The error is that of either; f is not cut short by the calls'.
func Meanwhile(conns []*Conn, window int, l *Load, f func() error) (*Result, error) {
	var over atomic.Bool
	next, made, silent := l.turns(len(conns)), make([]int, len(conns)), len(conns)
	underWay, ended := make(chan struct{}), make(chan struct{})
	var res *Result
	var err error
	go func() {
		defer close(ended)
		res, err = l.run(false, driver{
			conns: conns, window: window,
			next: func(i int, now time.Duration) (Call, time.Duration) {
				// There is room for one more than may be in flight: one is answered.
				if made[i]++; made[i] == window+1 {
					if silent--; silent == 0 {
						close(underWay)
					}
				}
				if over.Load() {
					return nil, 0
				}
				return next(i), now
			},
		})
	}()
	var failed error
	select {
	case <-underWay:
		failed = f()
	case <-ended:
		failed = errors.New("the calls did not get under way")
	}
	over.Store(true)
	<-ended
	return res, errors.Join(err, failed)
}

// turns gives the calls of each connection, one by one; nil: there are no more.
func (l *Load) turns(conns int) func(conn int) Call {
	at := make([]int, conns)
	return func(i int) Call {
		calls := l.Calls[i%len(l.Calls)]
		if at[i] == len(calls) {
			if l.Once || len(calls) == 0 {
				return nil
			}
			at[i] = 0
		}
		at[i]++
		return calls[at[i]-1]
	}
}

// run runs d in one thread, before all others if that is wanted and may be.
func (l *Load) run(ahead bool, d driver) (*Result, error) {
	var res Result
	check := l.Check
	if check == nil {
		check = func(r *Reply) error {
			if !r.Accepted || r.Status() != 0 {
				return errStatus
			}
			return nil
		}
	}
	times := make([]time.Duration, 0, 1<<18)
	d.look = look
	d.done = func(_ int, r *Reply, took time.Duration) error {
		times = append(times, took)
		res.Bytes += int64(r.Size)
		return check(r)
	}
	// The thread is given back as it was, and not ended: processes may end with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if ahead {
		before, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			return nil, err
		}
		res.First = first() == nil
		defer func() { _ = unix.SchedSetAttr(0, before, 0) }()
	}
	cpu, begin := threadTime(), time.Now()
	if err := d.run(); err != nil {
		return nil, err
	}
	res.Elapsed, res.CPU = time.Since(begin), threadTime()-cpu
	slices.Sort(times)
	if res.Calls = len(times); res.Calls > 0 {
		res.P50, res.P99 = times[res.Calls/2], times[res.Calls*99/100]
	}
	return &res, nil
}

// first has this thread run before all ordinary ones (sched(7)).
func first() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	return unix.SchedSetAttr(0, &attr, 0)
}

func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}
