package commit

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGroup: whoever comes while a run is under way shares the next one.
func TestGroup(t *testing.T) {
	var g Group
	var mu sync.Mutex
	runs, started := 0, make(chan struct{})
	release := make(chan struct{})
	slow := func() unix.Errno {
		mu.Lock()
		runs++
		mu.Unlock()
		started <- struct{}{}
		<-release
		return unix.Errno(runs)
	}
	var wg sync.WaitGroup
	wg.Go(func() { g.Do(slow) })
	<-started // the first run is under way: those who come now share the second
	results := make(chan unix.Errno, 10)
	for range 10 {
		wg.Go(func() { results <- g.Do(slow) })
	}
	waiting := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.next != nil
	}
	for deadline := time.Now().Add(time.Minute); !waiting(); {
		if time.Now().After(deadline) {
			t.Fatal("no one waits")
		}
	}
	go func() { // however many rounds the ten need
		for range started {
			release <- struct{}{}
		}
	}()
	release <- struct{}{}
	wg.Wait()
	close(started)
	for range 10 {
		if r := <-results; r < 2 {
			t.Errorf("a caller got the result of run %d, which began before it called", r)
		}
	}
	if runs > 11 || runs < 2 {
		t.Errorf("%d runs", runs)
	}
}

// TestPanic: those who wait for a commit that has a defect are told that it
// failed, and the next one is made.
func TestPanic(t *testing.T) {
	var g Group
	if what := func() (what any) {
		defer func() { what = recover() }()
		g.Do(func() unix.Errno { panic("a defect") })
		return nil
	}(); what != "a defect" {
		t.Fatal(what)
	}
	if e := g.Do(func() unix.Errno { return unix.ENOSPC }); e != unix.ENOSPC {
		t.Errorf("the next one: %v", e)
	}
}
