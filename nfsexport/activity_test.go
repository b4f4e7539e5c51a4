package nfsexport

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Every time is below the edge of its bucket, not below the edge of the one
// before, and the edge is not far.
func TestBuckets(t *testing.T) {
	all := []time.Duration{-1, 0, 1, 999, 1000, 1001, 1249, 1250, time.Second, time.Minute, 4294*time.Second + 967*time.Millisecond}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		all = append(all, time.Duration(math.Exp(r.Float64()*math.Log(4e12))))
	}
	for _, d := range all {
		b := bucketOf(d)
		if end := edge(b); d >= end || (b > 0 && d < edge(b-1)) {
			t.Fatalf("%d ns is in bucket %d, which ends at %d ns", d, b, end)
		}
		if end := edge(b); d >= firstBucket && float64(end) > float64(d)*1.25001 {
			t.Fatalf("%s is told as %s", d, end)
		}
	}
	if b := bucketOf(math.MaxInt64); b != octaves*perOctave {
		t.Errorf("the longest time is in bucket %d of %d", b, octaves*perOctave)
	}
}

func TestFigures(t *testing.T) {
	var a Activity
	if got := a.Figures(); len(got) != 0 {
		t.Errorf("before any call: %+v", got)
	}
	a.Note(maxProcedures, time.Second, false)
	a.Note(math.MaxUint32, time.Second, false)
	// 1 ms to 100 ms, one each, by many at once.
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { a.Note(6, time.Duration(i+1)*time.Millisecond, i%10 == 0) })
	}
	wg.Wait()
	a.Note(1, 300*time.Nanosecond, false)
	got := a.Figures()
	if len(got) != 2 || got[0].Procedure != 1 || got[1].Procedure != 6 {
		t.Fatalf("figures of %+v", got)
	}
	if f := got[0]; f.Calls != 1 || f.P50 != firstBucket || f.Worst != 300 || f.Total != 300 {
		t.Errorf("one fast call: %+v", f)
	}
	f := got[1]
	if f.Calls != 100 || f.Errors != 10 || f.Total != 5050*time.Millisecond || f.Worst != 100*time.Millisecond {
		t.Errorf("counted %+v", f)
	}
	for _, c := range []struct{ got, want time.Duration }{{f.P50, 50 * time.Millisecond}, {f.P90, 90 * time.Millisecond}, {f.P99, 99 * time.Millisecond}} {
		if c.got < c.want || float64(c.got) > 1.26*float64(c.want) || c.got > f.Worst {
			t.Errorf("a quantile is told as %s, and is %s", c.got, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { a.Note(6, time.Millisecond, false) }); n != 0 {
		t.Errorf("%v allocations for a call", n)
	}
}

// TestActivitySize: what is kept of a board's calls does not grow with them, and is little for
// one that booted: each lab has as much for each of its boards.
func TestActivitySize(t *testing.T) {
	const most = 12 << 10
	var a Activity
	r := rand.New(rand.NewPCG(1, 2))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range uint32(maxProcedures) {
		for range 1000 { // 2 us to 1 ms, as a boot's
			a.Note(n, time.Duration(2000*math.Exp(r.Float64()*math.Log(500))), false)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > most {
		t.Errorf("%d bytes for a board, want %d at most", took, most)
	}
	if got := len(a.Figures()); got != maxProcedures {
		t.Errorf("%d procedures", got)
	}
}

func BenchmarkNote(b *testing.B) {
	var a Activity
	for i := range b.N {
		a.Note(6, time.Duration(1000<<(i&3)), false)
	}
}
