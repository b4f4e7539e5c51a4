package commit

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Group lets callers share one run of a slow function. The zero value is ready.
type Group struct {
	mu   sync.Mutex
	next *round // what those who come now wait for; nil: the first of them leads
	run  sync.Mutex
}

type round struct {
	done chan struct{}
	err  unix.Errno
}

// Do returns after a run of f, its own or another caller's, that began after it called,
// and gives what that gave: EIO when it panicked.
func (g *Group) Do(f func() unix.Errno) unix.Errno {
	g.mu.Lock()
	r := g.next
	if r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r = &round{done: make(chan struct{})}
	g.next = r
	g.mu.Unlock()

	g.run.Lock() // the round before ends first
	g.mu.Lock()
	g.next = nil // from here on callers need another round
	g.mu.Unlock()
	r.err = unix.EIO // if f panics: those who wait know nothing
	defer close(r.done)
	defer g.run.Unlock()
	r.err = f()
	return r.err
}
