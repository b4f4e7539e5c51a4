package threads

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestThreads: calls that wait get spare threads, which go when they are not needed.
func TestThreads(t *testing.T) {
	type step struct {
		waits int
		late  bool
		reads int64 // blocks read from disks until then
		pass  time.Duration
		want  []int // what was set
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"nobody waits", []step{{pass: time.Hour}}},
		{"one", []step{{waits: 1, want: []int{6}}, {waits: -1, pass: 3 * time.Second, want: []int{2}}, {pass: time.Hour}}},
		{"short waits in a row are one", []step{
			{waits: 1, want: []int{6}},
			{waits: -1, pass: 900 * time.Millisecond},
			{waits: 1},
			{waits: -1, pass: 900 * time.Millisecond},
			{waits: 1},
			{waits: -1, pass: 3 * time.Second, want: []int{2}},
		}},
		{"as long as it takes", []step{{waits: 1, want: []int{6}}, {pass: time.Hour}, {waits: -1, pass: 3 * time.Second, want: []int{2}}}},
		{"more and less", []step{
			{waits: 2, want: []int{6}},
			{waits: 1, want: []int{10}},
			{waits: 6, want: []int{18}},
			{waits: -7, pass: 3 * time.Second, want: []int{6}},
			{waits: -2, pass: 3 * time.Second, want: []int{2}},
		}},
		{"bounded", []step{{waits: 1000, want: []int{18}}, {waits: 1000}, {waits: -2000, pass: 3 * time.Second, want: []int{2}}}},
		{"again", []step{
			{waits: 1, want: []int{6}},
			{waits: -1, pass: 3 * time.Second, want: []int{2}},
			{waits: 20, want: []int{18}},
			{waits: -20, pass: 3 * time.Second, want: []int{2}},
		}},
		{"late for want of a processor", []step{{late: true}, {late: true, pass: time.Hour}}},
		{"late for a disk", []step{
			{late: true, reads: 8, want: []int{10}},
			{late: true, reads: 8, pass: 3 * time.Second, want: []int{2}},
			{late: true, reads: 9, want: []int{10}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := make(chan int, 10)
				var blocks int64
				th := newThreads(2, func(n int) { set <- n }, func() int64 { return blocks })
				if n := <-set; n != 2 {
					t.Fatalf("at first %d", n)
				}
				for i, s := range c.steps {
					blocks = max(blocks, s.reads)
					if s.waits != 0 {
						th.Waits(s.waits)
					}
					if s.late {
						th.Late()
					}
					synctest.Wait()
					time.Sleep(s.pass) // of the bubble's clock
					synctest.Wait()
					var got []int
					for len(set) > 0 {
						got = append(got, <-set)
					}
					if !slices.Equal(got, s.want) {
						t.Errorf("step %d: set %v, want %v", i, got, s.want)
					}
				}
				th.Waits(-int(th.waiting.Load()))
				time.Sleep(time.Minute)
				synctest.Wait()
				if th.on.Load() || th.spare.Load() != 0 {
					t.Errorf("at last somebody looks after %d spare threads", th.spare.Load())
				}
			})
		})
	}
}

// TestAtOnce: whatever comes and goes at the same time, and whenever it is looked, nobody
// waits without spare threads, and none is left at last.
func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var threads atomic.Int64
		th := newThreads(2, func(n int) {
			for range 20 { // as it takes its time
				runtime.Gosched()
			}
			threads.Store(int64(n))
		}, func() int64 { return 0 })
		for range 2000 {
			var all sync.WaitGroup
			pause := rand.N(time.Duration(5)) * rest // when it is looked, too
			for range 8 {
				stay := rand.N(time.Duration(3)) * rest
				all.Go(func() {
					time.Sleep(pause)
					th.Waits(1)
					th.Waits(1)
					th.Waits(-1)
					time.Sleep(stay)
					th.Waits(-1)
				})
			}
			for range 4 {
				time.Sleep(rand.N(rest))
				synctest.Wait()
				if n := th.waiting.Load(); threads.Load()-2 < spareFor(n) {
					t.Fatalf("%d threads while %d calls wait", threads.Load(), n)
				}
			}
			all.Wait()
		}
		time.Sleep(3 * rest)
		synctest.Wait()
		if th.waiting.Load() != 0 || th.on.Load() || threads.Load() != 2 {
			t.Errorf("at last %d wait, and %d threads run", th.waiting.Load(), threads.Load())
		}
	})
}

// TestNew changes this process.
func TestNew(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(was)
	t.Setenv("GOMAXPROCS", "")
	th := New()
	if n := runtime.GOMAXPROCS(0); n != max(2, was) {
		t.Errorf("%d threads, want %d", n, max(2, was))
	}
	th.Waits(1)
	for deadline := time.Now().Add(time.Minute); runtime.GOMAXPROCS(0) == max(2, was); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("no thread was added")
		}
	}
	th.Waits(-1)
	for deadline := time.Now().Add(time.Minute); th.on.Load(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("spare threads stay")
		}
	}
	if n := runtime.GOMAXPROCS(0); n != max(2, was) {
		t.Errorf("%d threads at last", n)
	}
}

// TestGiven: who says how many there are to be is heard.
func TestGiven(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "7")
	th := New()
	th.Waits(1)
	th.Late()
	if th != nil || runtime.GOMAXPROCS(0) != was {
		t.Error("it is not left alone")
	}
}
