package reserve

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

const mib = 1 << 20

// kernel has free space, of which others may take some; it says so when it is asked.
type kernel struct {
	mu    sync.Mutex
	free  Free
	back  int64 // comes free when all is asked for
	asked int
	err   error
}

func (k *kernel) Free(all bool) (Free, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if all {
		k.free.Bytes, k.back = k.free.Bytes+k.back, 0
	}
	return k.free, k.err
}

func (k *kernel) use(n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.free.Bytes -= n
}

// TestTake: what is taken, and what is told, of a disk that keeps 64 MiB.
func TestTake(t *testing.T) {
	const keep = 64 * mib
	type step struct {
		free  int64 // MiB before it
		n     int64
		small bool
		after time.Duration
		want  bool
		news  News
	}
	for name, c := range map[string]struct {
		files int64
		back  int64
		steps []step
	}{
		"all that there is":       {-1, 0, []step{{free: 100, n: 36 * mib, want: true}}},
		"more than there is":      {-1, 0, []step{{free: 100, n: 36*mib + 1, news: Large}, {free: 100, n: 36 * mib, want: true}}},
		"after what another took": {-1, 0, []step{{free: 100, n: 20 * mib, want: true}, {free: 100, n: 20 * mib, news: Large}, {free: 100, n: 16 * mib, want: true}, {free: 100, n: 1, news: Low}}},
		"others took it":          {-1, 0, []step{{free: 100, n: 1, want: true}, {free: 60, n: mib, want: true}, {free: 60, n: mib, after: time.Second, news: Low}}},
		"given back":              {-1, 0, []step{{free: 60, n: 1, news: Low}, {free: 65, n: 1, want: true}, {free: 69, n: 1, after: time.Second, want: true, news: Back}}},
		"low again at once":       {-1, 0, []step{{free: 60, n: 1, news: Low}, {free: 100, n: 1, want: true, news: Back}, {free: 100, n: 36 * mib, news: Large}, {free: 60, n: 40 * mib}, {free: 60, n: 1, after: time.Second, news: Low}}},
		"low is told once":        {-1, 0, []step{{free: 60, n: 1, news: Low}, {free: 60, n: 1, after: time.Hour}}},
		"large is told a minute later": {-1, 0, []step{
			{free: 100, n: 99 * mib, news: Large}, {free: 100, n: 99 * mib, after: 59 * time.Second}, {free: 100, n: 99 * mib, after: time.Second, news: Large},
		}},
		"small things":                 {-1, 0, []step{{free: 33, n: mib, small: true, want: true}, {free: 33, n: 1, small: true, news: Low}}},
		"few files":                    {minFiles - 1, 0, []step{{free: 100, n: 1, news: Low}, {free: 100, n: 1, small: true, want: true}}},
		"enough files":                 {minFiles, 0, []step{{free: 100, n: 1, want: true}}},
		"what the file system kept":    {-1, 40 * mib, []step{{free: 60, n: 36 * mib, want: true, news: Back}}},
		"what it kept, a second later": {-1, 0, []step{{free: 60, n: 1, news: Low}, {free: 60, n: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			d, now := New(keep), time.Unix(1e9, 0)
			k := &kernel{back: c.back}
			if c.back > 0 {
				d.low = true
			}
			for i, s := range c.steps {
				now = now.Add(s.after)
				k.free = Free{s.free * mib, c.files}
				if got, news := d.Take(s.n, s.small, now, k); got != s.want || news != s.news {
					t.Errorf("step %d: %v, news %d; want %v, news %d", i, got, news, s.want, s.news)
				}
			}
		})
	}
}

// TestCannotAsk: a file system that does not answer says itself what fits.
func TestCannotAsk(t *testing.T) {
	d, k := New(mib), &kernel{err: errors.New("gone")}
	if ok, news := d.Take(mib, false, time.Unix(1e9, 0), k); !ok || news != None {
		t.Errorf("%v, news %d", ok, news)
	}
}

// TestAsks: far from the reserve the kernel is hardly asked, and at it as often as the
// room can be halved; what is used in the end is all that there was.
func TestAsks(t *testing.T) {
	const keep, room, step = 64 * mib, 1 << 30, 4096
	d, k, now := New(keep), &kernel{free: Free{keep + room, -1}}, time.Unix(1e9, 0)
	used := int64(0)
	for {
		if ok, _ := d.Take(step, false, now, k); !ok {
			break
		}
		k.use(step)
		d.End(step)
		used += step
	}
	if used != room {
		t.Errorf("%d bytes of %d were used", used, room)
	}
	if k.asked > 25 {
		t.Errorf("the kernel was asked %d times", k.asked)
	}
}

// TestTogether: calls that take at the same time, and use what they took a while later,
// never come below the reserve.
func TestTogether(t *testing.T) {
	const keep, room = 64 * mib, 100 * mib
	d, k, now := New(keep), &kernel{free: Free{keep + room, -1}}, time.Unix(1e9, 0)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for refused := 0; refused < 20; {
				n := 1 + r.Int64N(100<<10)
				if ok, _ := d.Take(n, false, now, k); ok {
					k.use(n)
					d.End(n)
				} else {
					refused++
				}
			}
		})
	}
	wg.Wait()
	if free, _ := k.Free(false); free.Bytes < keep || free.Bytes > keep+200<<10 {
		t.Errorf("%d bytes are free, and %d are kept", free.Bytes, keep)
	}
	if d.taken.Load() != d.ended.Load() {
		t.Errorf("%d were taken, %d ended", d.taken.Load(), d.ended.Load())
	}
}
