package sunrpc

import (
	"context"
	"slices"
	"sync"
)

// purse is something of which there is so much for all peers: bytes of large buffers, or
// calls that run.
//
// Who holds some may have more only while he has then no more than a part of what is left for
// others. So each gets less the more is taken, and who comes finds something: he waits for none
// of those that were there, however long they keep what they have. (Packet buffers are shared so
// in switches: Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998.) Who holds nothing may
// have all that is left. When that is too little for him it is kept for him: what comes back
// goes to those first who hold nothing, then to those who hold least.
type purse struct {
	all, each int64 // what there is, and the most of one peer
	part      int64 // of how many parts of what is left he may have one

	mu      sync.Mutex
	free    int64
	waiting []*holding // those who wait, the one who began first at the front
	kept    bool       // for the first of them who holds nothing, and is not enough
}

const (
	// partOfBytes lets one peer have 7 calls of 1 MiB, or 60 of 128 KiB, of 256 MiB. A hundred
	// that each keep all they can get take all of it.
	partOfBytes = 32
	// partOfCalls lets one peer have 64 of 512. Calls end by themselves, so that who waits for
	// one waits for the first of them only.
	partOfCalls = 4
)

// newPurse makes one of all, of which one peer has each at most. Neither may be less than what
// is asked for at once, or who does waits for ever.
func newPurse(all, each, part int64) *purse {
	return &purse{all: all, each: each, part: part, free: all}
}

// purses are those that some peers share.
type purses struct{ calls, bytes *purse }

// newPurses makes them of one of so many parts of what there is.
func (s *Server) newPurses(parts int64) purses {
	l, largest := &s.limits, int64(s.pool.largeSize)
	return purses{
		newPurse(max(int64(l.Calls)/parts, 1), int64(l.CallsPerPeer), partOfCalls),
		newPurse(max(l.Bytes/parts, largest), max(l.BytesPerPeer, largest), partOfBytes),
	}
}

// means are what one peer has of them.
type means struct{ calls, bytes holding }

func (p purses) means() means { return means{holding{of: p.calls}, holding{of: p.bytes}} }

// holding is what one peer has of a purse, all of it guarded by its mu.
type holding struct {
	of   *purse
	n    int64
	want []*want // what it waits for, in order
}

// want is something waited for.
type want struct {
	n   int64
	got chan struct{} // closed when it is there
}

// may says whether h can have n more. p.mu is held, as below.
func (p *purse) may(h *holding, n int64) bool {
	if h.n == 0 {
		return n <= p.free
	}
	return h.n+n <= min(p.each, (p.free-n)/p.part)
}

// try takes n, if there is as much.
func (h *holding) try(n int) bool {
	p := h.of
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept || len(h.want) > 0 || !p.may(h, int64(n)) {
		return false
	}
	h.n, p.free = h.n+int64(n), p.free-int64(n)
	return true
}

// take takes n, and waits for it. The error is ctx's.
func (h *holding) take(ctx context.Context, n int) error {
	if h.try(n) {
		return nil
	}
	p, w := h.of, &want{int64(n), make(chan struct{})}
	p.mu.Lock()
	if h.want = append(h.want, w); len(h.want) == 1 {
		p.waiting = append(p.waiting, h)
	}
	p.share()
	p.mu.Unlock()
	select {
	case <-w.got:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(h.want, w); i >= 0 {
		h.drop(i)
	} else {
		h.n, p.free = h.n-w.n, p.free+w.n
	}
	p.share()
	return ctx.Err()
}

// give gives back n of what was taken.
func (h *holding) give(n int) {
	p := h.of
	p.mu.Lock()
	defer p.mu.Unlock()
	h.n, p.free = h.n-int64(n), p.free+int64(n)
	if len(p.waiting) > 0 {
		p.share()
	}
}

// share gives those who wait what they may have.
func (p *purse) share() {
	for {
		p.kept = false
		var next *holding
		for _, h := range p.waiting {
			n := h.want[0].n
			if h.n == 0 {
				if p.kept = n > p.free; p.kept {
					return
				}
				next = h
				break
			}
			if p.may(h, n) && (next == nil || h.n < next.n) {
				next = h
			}
		}
		if next == nil {
			return
		}
		w := next.want[0]
		next.drop(0)
		next.n, p.free = next.n+w.n, p.free-w.n
		close(w.got)
	}
}

// drop ends the wait for one of those that h waits for.
func (h *holding) drop(i int) {
	if h.want = slices.Delete(h.want, i, i+1); len(h.want) == 0 {
		p := h.of
		i := slices.Index(p.waiting, h)
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
}

// missing is how much must come back until all have something who hold nothing and wait for it.
func (p *purse) missing() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.kept {
		return 0
	}
	n := -p.free
	for _, h := range p.waiting {
		if h.n == 0 {
			n += h.want[0].n
		}
	}
	return n
}

// holds is what h has.
func (h *holding) holds() int64 {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.n
}
