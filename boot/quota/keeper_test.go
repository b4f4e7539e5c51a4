package quota

import (
	"context"
	"testing"
	"time"

	"rubus/nfsexport"
	"rubus/overlay"
)

// site is a Keeper with a clock and counts of the test's own.
type site struct {
	*Keeper
	now   time.Time
	there overlay.Usage
	took  time.Duration
	moved bool
	meant func() // what a board does during a count
	n     int
	held  int
}

func newSite() *site {
	s := &site{now: time.Unix(1e9, 0)}
	hold := func(context.Context, nfsexport.ID) (func(), error) {
		s.held++
		return func() { s.held += 100 }, nil
	}
	s.Keeper = New(Options{Hold: hold, Now: func() time.Time { return s.now }, Count: func(context.Context, string) (overlay.Usage, error) {
		s.n++
		s.now = s.now.Add(s.took)
		if s.meant != nil {
			s.meant()
		}
		if s.moved {
			return overlay.Usage{}, overlay.ErrMoved
		}
		return s.there, nil
	}})
	return s
}

// after lets time pass and says how many counts came of it.
func (s *site) after(t *testing.T, d time.Duration) int {
	t.Helper()
	s.now = s.now.Add(d)
	was := s.n
	s.CountDue(t.Context())
	return s.n - was
}

func TestCountDue(t *testing.T) {
	s := newSite()
	q := s.Open(1, t.TempDir())
	if s.Open(1, s.roots[1].dir) != q {
		t.Fatal("another quota for the same root")
	}
	if n := s.after(t, time.Hour); n != 0 || q.Counts() {
		t.Fatalf("%d counts without a limit", n)
	}
	if _, ok := s.Use(1); ok {
		t.Error("a use without a limit")
	}
	limit := nfsexport.Space{Bytes: 1 << 20}
	set := func(l nfsexport.Space) {
		t.Helper()
		if err := s.Limit(1, l); err != nil {
			t.Fatal(err)
		}
	}
	set(limit)
	if u, ok := s.Use(1); !ok || u.Known || u.Limit != limit || u.Way != Server {
		t.Errorf("before the first count: %+v, %v", u, ok)
	}
	s.there = overlay.Usage{Bytes: 900 << 10, Files: 7}
	if n := s.after(t, 0); n != 1 {
		t.Fatalf("%d counts at first", n)
	}
	if u, ok := s.Use(1); !ok || !u.Known || u.Used != (nfsexport.Space{Bytes: 900 << 10, Files: 7}) {
		t.Errorf("after the first count: %+v, %v", u, ok)
	}
	if n := s.after(t, 24*time.Hour); n != 0 {
		t.Errorf("%d counts of a board that did nothing", n)
	}
	q.Add(1<<10, 1)
	if n := s.after(t, 0); n != 1 {
		t.Errorf("%d counts when something had changed, long after the last", n)
	}
	q.Add(1<<10, 1)
	if n := s.after(t, often-time.Second); n != 0 {
		t.Errorf("%d counts too soon", n)
	}
	if q.Take(1<<20, 0) {
		t.Error("more than the limit was taken")
	}
	if n := s.after(t, 0); n != 1 {
		t.Errorf("%d counts when the board had been refused something", n)
	}
	// Changes during the count: it is made again soon.
	q.Add(1<<10, 1)
	s.meant = func() { q.Add(4<<10, 1) }
	if n := s.after(t, often); n != 1 || s.roots[1].exact {
		t.Errorf("%d counts, exact %v", n, s.roots[1].exact)
	}
	if u, _ := s.Use(1); u.Used.Bytes != 904<<10 {
		t.Errorf("%+v are counted after a change meanwhile", u.Used)
	}
	s.meant = nil
	if n := s.after(t, soon); n != 1 || !s.roots[1].exact {
		t.Errorf("%d counts, exact %v", n, s.roots[1].exact)
	}
	// What takes long is done less often.
	q.Add(1, 0)
	s.took = time.Minute
	if n := s.after(t, often); n != 1 {
		t.Errorf("%d counts", n)
	}
	q.Add(1, 0)
	if n := s.after(t, share*time.Minute-time.Second); n != 0 {
		t.Errorf("%d counts, and each takes a minute", n)
	}
	if n := s.after(t, 2*time.Second); n != 1 {
		t.Errorf("%d counts in the end", n)
	}
	// One that fails leaves what was counted, and is made again.
	q.Add(1, 0)
	s.took, s.moved = 0, true
	if n := s.after(t, share*time.Minute); n != 1 {
		t.Errorf("%d counts", n)
	}
	s.moved = false
	if n := s.after(t, often); n != 1 || s.held != 101 {
		t.Errorf("%d counts after one that failed, held: %d", n, s.held)
	}
	// A limit that is taken away and comes back: nobody has counted meanwhile.
	set(nfsexport.Space{})
	set(limit)
	if u, _ := s.Use(1); u.Known {
		t.Error("what nobody counted is known")
	}
	if n := s.after(t, soon); n != 1 {
		t.Errorf("%d counts for a new limit", n)
	}
	s.Close(1)
	if err := s.Limit(1, limit); err != nil {
		t.Error(err)
	}
	if n := s.after(t, 24*time.Hour); n != 0 {
		t.Errorf("%d counts of a root that is closed", n)
	}
}
