package reserve

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Free is what a file system has free.
type Free struct {
	Bytes int64
	Files int64 // -1: it does not count them
}

// Asker asks the kernel.
type Asker interface {
	// Free is what is free. With all it is to be made as much as it can be at once; it
	// may block on the disk then.
	Free(all bool) (Free, error)
}

// News is what an admin should hear of.
type News int

// What there can be.
const (
	None News = iota
	// Low: a call was refused, since all that is above the reserve is used up.
	Low
	// Back: there is space again, after Low.
	Back
	// Large: a call was refused that wants more than there is, which is enough for others.
	Large
)

const (
	// age is for how long an answer of the kernel's is good: others take space, too.
	age = time.Second
	// minFiles is the reserve of files, where they are counted.
	minFiles = 1024
	// minMargin is the least that says that there is space again.
	minMargin = 4 << 20
	// lowEvery and largeEvery are how often Low and Large are told at most.
	lowEvery, largeEvery = time.Second, time.Minute
)

// Disk is one file system, of which a reserve is kept free. Calls take what they may need
// before they do anything; the kernel is asked when half of what it said is taken, so
// more and more often as the reserve comes nearer, and a call that is refused was always
// measured by an answer of this moment. What was taken by calls that are not yet over may
// be missing in that answer, and is held against it.
//
// So boards together come to the reserve and not below it, but by what nobody counts
// beforehand: blocks that map a large file, directories that are copied up.
//
// Its methods may be called from many goroutines at once.
type Disk struct {
	keep int64 // bytes

	taken atomic.Int64 // bytes that were taken, ever
	ended atomic.Int64 // of these, those of calls that are over
	most  atomic.Int64 // what taken may come to before the kernel is asked
	asked atomic.Int64 // when it was, in nanoseconds of the Unix clock

	mu      sync.Mutex // held by who asks
	low     bool       // Low was told
	lowAt   time.Time
	allAt   time.Time // when all was asked for
	largeAt time.Time
}

// New makes a Disk of which so many bytes, more than none, are kept.
func New(keep int64) *Disk {
	d := &Disk{keep: keep}
	d.most.Store(math.MinInt64)
	return d
}

// Take takes n bytes, until End. With small it may go down to half of the reserve: that
// is for what hardly takes anything, and would hurt most if it were refused. The kernel is
// asked by a. When it cannot be asked, nothing is refused.
func (d *Disk) Take(n int64, small bool, now time.Time, a Asker) (bool, News) {
	for since := now.UnixNano() - d.asked.Load(); since < int64(age) && since > -int64(age); {
		t := d.taken.Load() // before most, see ask
		if t+n > d.most.Load() {
			break
		}
		if d.taken.CompareAndSwap(t, t+n) {
			return true, None
		}
	}
	return d.ask(n, small, now, a)
}

// End says that what a call took is used, or is not needed any more.
func (d *Disk) End(n int64) { d.ended.Add(n) }

func (d *Disk) ask(n int64, small bool, now time.Time, a Asker) (bool, News) {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := d.most.Swap(math.MinInt64) // the others come here, and wait
	ended := d.ended.Load()            // before the kernel is asked: its answer has all that
	free, err := a.Free(false)
	if err == nil && now.Sub(d.allAt).Abs() >= age {
		if room, half := d.room(free, d.taken.Load()-ended); n > room && !(small && n <= half) {
			d.allAt = now
			free, err = a.Free(true)
		}
	}
	if err != nil {
		d.most.Store(most)
		d.taken.Add(n)
		return true, None
	}
	for {
		t := d.taken.Load()
		room, half := d.room(free, t-ended)
		fits := n <= room || small && n <= half
		if !fits {
			d.grant(t, room, now)
		} else if d.taken.CompareAndSwap(t, t+n) {
			d.grant(t+n, room-n, now)
		} else {
			continue // who read most before the Swap has taken something just now
		}
		return fits, d.tell(fits, room, now)
	}
}

// room is what is free above the reserve, and above half of it, when so much may be
// missing in an answer.
func (d *Disk) room(free Free, missing int64) (room, half int64) {
	room, half = free.Bytes-d.keep-missing, free.Bytes-d.keep/2-missing
	if free.Files >= 0 && free.Files < minFiles {
		room = min(room, 0)
	}
	return room, half
}

// grant lets calls take half of the room before the kernel is asked again.
func (d *Disk) grant(taken, room int64, now time.Time) {
	d.most.Store(taken + max(0, room)/2)
	d.asked.Store(now.UnixNano())
}

// tell says what is to be told of an answer.
func (d *Disk) tell(fits bool, room int64, now time.Time) News {
	enough := room >= max(d.keep/16, minMargin)
	switch {
	case !fits && !enough && !d.low && now.Sub(d.lowAt).Abs() >= lowEvery:
		d.low, d.lowAt = true, now
		return Low
	case !fits && enough && now.Sub(d.largeAt).Abs() >= largeEvery:
		d.largeAt = now
		return Large
	case fits && enough && d.low:
		d.low = false
		return Back
	}
	return None
}
