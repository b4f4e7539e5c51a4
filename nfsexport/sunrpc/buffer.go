package sunrpc

import (
	"slices"
	"sync"
)

// Sizes of pooled buffers. A connection that waits holds at most a small one.
const (
	smallBuffer = 4 << 10
	// mediumBuffer holds 64 KiB of data and the headers around them.
	mediumBuffer = 68 << 10
	// wideBuffer holds 128 KiB of data and the headers: what many clients ask
	// for at once. In one of largeSize it would lie scattered over the caches.
	wideBuffer = 132 << 10
	// headRoom is more than the headers of any reply take.
	headRoom = 512
)

// buffer is a pooled piece of memory. Large ones are charged to a peer.
type buffer struct {
	b    []byte
	from *holding // charged with it, or nil
	by   *conn    // that took it, then
}

// pool hands out buffers of four sizes. The two larger ones are charged, and those of replies
// that take more than a small one.
type pool struct {
	small, medium sync.Pool
	wide, large   shelf
	largeSize     int
}

// shelf keeps large buffers until they are needed again. A sync.Pool would keep some for each
// thread that may run Go code, and as many again until the next but one collection of garbage.
type shelf struct {
	mu    sync.Mutex
	free  []*buffer // the one used last at the end
	spare int       // how many of them nobody needed since the last trim
}

// get gives a buffer, or nil.
func (s *shelf) get() *buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.free) - 1
	if n < 0 {
		return nil
	}
	b := s.free[n]
	s.free[n], s.free, s.spare = nil, s.free[:n], min(s.spare, n)
	return b
}

func (s *shelf) put(b *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, b)
}

// trim lets go of what nobody needed since the last trim.
func (s *shelf) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = slices.Delete(s.free, 0, s.spare)
	s.spare = len(s.free)
}

// trim lets go of large buffers that were not needed of late.
func (p *pool) trim() {
	p.wide.trim()
	p.large.trim()
}

// sizeFor is the size of the buffer that holds n bytes.
func (p *pool) sizeFor(n int) int {
	switch {
	case n <= smallBuffer:
		return smallBuffer
	case n <= mediumBuffer:
		return mediumBuffer
	case n <= wideBuffer && wideBuffer < p.largeSize:
		return wideBuffer
	}
	return p.largeSize
}

// get gives a buffer of at least n bytes, which must not exceed largeSize.
func (p *pool) get(n int) *buffer {
	size := p.sizeFor(n)
	var b *buffer
	switch size {
	case smallBuffer:
		b, _ = p.small.Get().(*buffer)
	case mediumBuffer:
		b, _ = p.medium.Get().(*buffer)
	case p.largeSize:
		b = p.large.get()
	default:
		b = p.wide.get()
	}
	if b == nil {
		b = &buffer{b: make([]byte, size)}
	}
	return b
}

// put takes a buffer back, and its charge off the peer. A nil buffer is nothing.
func (p *pool) put(b *buffer) {
	if b == nil {
		return
	}
	if b.from != nil {
		b.by.charged.Add(-int64(len(b.b)))
		b.from.give(len(b.b))
		b.from, b.by = nil, nil
	}
	switch len(b.b) {
	case smallBuffer:
		p.small.Put(b)
	case mediumBuffer:
		p.medium.Put(b)
	case p.largeSize:
		p.large.put(b)
	default:
		p.wide.put(b)
	}
}
