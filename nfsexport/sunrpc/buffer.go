package sunrpc

import "sync"

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
	peer *peer  // charged for it, or nil
	of   *purse // that of all that it is taken from, then
}

// pool hands out buffers of four sizes, the two larger ones charged.
type pool struct {
	small, medium, wide, large sync.Pool
	largeSize                  int
}

// isLarge says whether n bytes take a large buffer, which must be charged.
func (p *pool) isLarge(n int) bool { return n > mediumBuffer }

// largeFor is the size of the large buffer that holds n bytes.
func (p *pool) largeFor(n int) int {
	if n <= wideBuffer && wideBuffer < p.largeSize {
		return wideBuffer
	}
	return p.largeSize
}

// get gives a buffer of at least n bytes, which must not exceed largeSize.
func (p *pool) get(n int) *buffer {
	from, size := &p.large, p.largeSize
	switch {
	case n <= smallBuffer:
		from, size = &p.small, smallBuffer
	case n <= mediumBuffer:
		from, size = &p.medium, mediumBuffer
	case p.largeFor(n) == wideBuffer:
		from, size = &p.wide, wideBuffer
	}
	if b, ok := from.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, size)}
}

// put takes a buffer back, and its charge off the peer. A nil buffer is nothing.
func (p *pool) put(b *buffer) {
	if b == nil {
		return
	}
	if b.peer != nil {
		b.peer.uncharge(b.of, len(b.b))
		b.peer, b.of = nil, nil
	}
	switch len(b.b) {
	case smallBuffer:
		p.small.Put(b)
	case mediumBuffer:
		p.medium.Put(b)
	case p.largeSize:
		p.large.Put(b)
	default:
		p.wide.Put(b)
	}
}
