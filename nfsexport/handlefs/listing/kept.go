package listing

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// maxKept bounds the memory of the listings that are kept, in bytes.
const maxKept = 64 << 20

// Kept are the last listings of directories, kept for the next calls: the oldest go. The zero
// Kept is none. Its methods may be called from many goroutines at once.
type Kept struct {
	mu    sync.Mutex
	order list.List // of *Place, the one kept first at the front
	bytes int
}

// Place is where a directory has its last listing. The zero Place has none.
type Place struct {
	last atomic.Pointer[Listing]
	at   *list.Element // guarded by Kept
}

// Last gives the listing that is kept, or nil.
func (p *Place) Last() *Listing { return p.last.Load() }

// Keep keeps l in a place, instead of what that had, unless it is too large.
func (k *Kept) Keep(p *Place, l *Listing) {
	if l.Bytes() > maxKept/2 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(p)
	p.last.Store(l)
	p.at = k.order.PushBack(p)
	for k.bytes += l.Bytes(); k.bytes > maxKept; {
		k.remove(k.order.Front().Value.(*Place))
	}
}

// Drop lets go of the listing in a place if it is l.
func (k *Kept) Drop(p *Place, l *Listing) {
	if p.last.Load() != l {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(p)
}

// Clear lets go of the listing in a place. It must be called before the place itself goes.
func (k *Kept) Clear(p *Place) {
	if l := p.last.Load(); l != nil {
		k.Drop(p, l)
	}
}

func (k *Kept) remove(p *Place) {
	if l := p.last.Swap(nil); l != nil {
		k.bytes -= l.Bytes()
		k.order.Remove(p.at)
		p.at = nil
	}
}

// Size is how many listings are kept, and what they take, in bytes.
func (k *Kept) Size() (n, bytes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order.Len(), k.bytes
}
