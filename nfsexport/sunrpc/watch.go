package sunrpc

import (
	"sync"
	"time"
)

const (
	// watchTick is how often long calls are looked at: one that began before the
	// last look has its connection's reading handed over.
	watchTick = time.Millisecond
	// watchRest is after how many looks at nothing they end.
	watchRest = 100
)

// watch notices long calls that hold up the reading of their connections.
type watch struct {
	every time.Duration // watchTick

	mu   sync.Mutex
	jobs []*job // that run, or send
	tick int
	on   bool   // somebody looks
	late []late // what one look found
}

// late is a job that was found, and its connection then: by now it may be another's.
type late struct {
	c *conn
	j *job
}

// watched is the watch's part of a job, guarded by its lock.
type watched struct {
	at, since int
	told      bool
}

// add notes that j begins.
func (w *watch) add(j *job) {
	w.mu.Lock()
	j.watched = watched{at: len(w.jobs), since: w.tick}
	w.jobs = append(w.jobs, j)
	if !w.on {
		w.on = true
		go w.look(w.every)
	}
	w.mu.Unlock()
}

// remove notes that j ended.
func (w *watch) remove(j *job) {
	w.mu.Lock()
	n := len(w.jobs) - 1
	last := w.jobs[n]
	w.jobs[j.watched.at], last.watched.at = last, j.watched.at
	w.jobs[n] = nil
	w.jobs = w.jobs[:n]
	w.mu.Unlock()
}

// look looks at all jobs, over and over, until there were none for a while.
func (w *watch) look(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for idle := 0; ; {
		<-t.C
		w.mu.Lock()
		w.tick++
		w.late = w.late[:0]
		for _, j := range w.jobs {
			if !j.watched.told && w.tick-j.watched.since > 1 {
				j.watched.told = true
				w.late = append(w.late, late{j.c, j})
			}
		}
		if idle++; len(w.jobs) > 0 {
			idle = 0
		}
		if idle > watchRest {
			w.on = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		if len(w.late) > 0 {
			w.late[0].c.s.threads.Late()
		}
		for _, l := range w.late {
			l.c.handOver(l.j)
		}
		clear(w.late)
	}
}
