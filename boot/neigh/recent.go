package neigh

import (
	"sync"
	"time"
)

// recent is what was found of some things a moment ago. It has most of them at most:
// with one more it begins anew.
type recent[K comparable, V any] struct {
	most int

	mu    sync.Mutex
	found map[K]finding[V]
}

type finding[V any] struct {
	value V
	until time.Time
}

func newRecent[K comparable, V any](most int) *recent[K, V] {
	return &recent[K, V]{most: most, found: map[K]finding[V]{}}
}

// get is what was found of k, if that holds at the time now.
func (r *recent[K, V]) get(k K, now time.Time) (v V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.found[k]
	if !ok || !now.Before(f.until) {
		return v, false
	}
	return f.value, true
}

// put notes what was found of k, and until when it holds.
func (r *recent[K, V]) put(k K, v V, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.found) >= r.most {
		clear(r.found)
	}
	r.found[k] = finding[V]{v, until}
}
