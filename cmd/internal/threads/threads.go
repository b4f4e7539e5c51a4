package threads

import (
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Threads sets how many threads of this process run Go code at once (package runtime:
// GOMAXPROCS): as many as the machine has processors, or as the unit's CPUQuota leaves, and
// spare ones while calls wait for a disk. Anybody may call its methods, also of
// nil, which do nothing then.
//
// Go counts a thread that is in a system call as one that runs, until it looks, every 20 us
// to 10 ms. So once as many calls wait for a disk as threads may run, all else stands
// still for that long, a GETATTR in memory as well. To have spare threads at all times
// costs something, too: with more threads that have work than processors, the kernel
// decides who runs, for ms at a time, and connections do not take turns.
type Threads struct {
	base    int
	set     func(int)    // runtime.GOMAXPROCS
	inBlock func() int64 // what this process had to read from disks

	waiting atomic.Int64 // calls that wait
	most    atomic.Int64 // of them, since the last look
	spare   atomic.Int64
	blocks  atomic.Int64 // what inBlock gave
	on      atomic.Bool  // look runs
	more    chan struct{}
}

const (
	// rest is for how long spare threads stay without need.
	rest = time.Second
	// maxSpare bounds them, as each takes memory for small objects. What waits beyond that
	// waits as it would in any Go program.
	maxSpare = 16
	// reads are how many calls are taken to wait when some read from a disk: READs over NFS
	// do not say so.
	reads = 6
)

// New makes the Threads of this process, of which there should be one. If GOMAXPROCS is
// set for the process, nothing is changed, and it gives nil.
func New() *Threads {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	// With one only there would be nobody to get spare ones while it waits.
	return newThreads(max(2, runtime.GOMAXPROCS(0)), func(n int) { runtime.GOMAXPROCS(n) }, inBlock)
}

func newThreads(base int, set func(int), inBlock func() int64) *Threads {
	t := &Threads{base: base, set: set, inBlock: inBlock, more: make(chan struct{}, 1)}
	t.blocks.Store(inBlock())
	t.set(base)
	return t
}

func inBlock() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Inblock
}

// Waits says that n more calls wait for a disk; less than 0: that so many do not any more.
func (t *Threads) Waits(n int) {
	if t == nil {
		return
	}
	if now := t.waiting.Add(int64(n)); n > 0 {
		t.need(now)
	}
}

// Late says that a call takes long, it is not known why: it may wait for a disk, or for a
// processor.
func (t *Threads) Late() {
	if t == nil {
		return
	}
	if n := t.inBlock(); t.blocks.Swap(n) != n {
		t.need(reads)
	}
}

// need is for n calls that wait.
func (t *Threads) need(n int64) {
	for was := t.most.Load(); was < n && !t.most.CompareAndSwap(was, n); was = t.most.Load() {
	}
	if spareFor(n) <= t.spare.Load() {
		return
	}
	// Not here: to change the number waits until a collection of garbage is over.
	if t.on.CompareAndSwap(false, true) {
		go t.look()
		return
	}
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// spareFor is how many spare threads there are to be when n calls wait: few numbers,
// as everything stops for a change; and two more than that, who look after those that come.
func spareFor(n int64) int64 {
	if n <= 0 {
		return 0
	}
	spare := int64(4)
	for spare < n+2 && spare < maxSpare {
		spare *= 2
	}
	return spare
}

// look keeps as many threads as are needed, until none is spare.
func (t *Threads) look() {
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for {
		if want := spareFor(t.most.Load()); want > t.spare.Load() {
			t.change(want)
		}
		select {
		case <-t.more:
			continue
		case <-tick.C:
		}
		if want := spareFor(t.most.Swap(t.waiting.Load())); want < t.spare.Load() {
			t.change(want)
		}
		if t.spare.Load() > 0 {
			continue
		}
		t.on.Store(false)
		// Who came meanwhile saw that this runs.
		if t.most.Load() == 0 || !t.on.CompareAndSwap(false, true) {
			return
		}
	}
}

func (t *Threads) change(spare int64) {
	t.spare.Store(spare)
	t.set(t.base + int(spare))
}
