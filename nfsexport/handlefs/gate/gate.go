package gate

import (
	"context"
	"errors"
	"sync/atomic"
)

// Gate is what calls go in by. It costs one atomic addition in and one out, and calls
// never wait at it: who finds it shut is told so.
type Gate struct {
	// inside counts the calls inside; shut is added while the gate is held.
	inside atomic.Int64
	empty  chan struct{} // has one when the last went out of a gate that is held
}

const shut = 1 << 40

// New makes a gate that is open.
func New() *Gate { return &Gate{empty: make(chan struct{}, 1)} }

// Enter says whether the gate is open; if so the call is inside, and Leave must follow.
func (g *Gate) Enter() bool {
	if g.inside.Add(1) < shut {
		return true
	}
	g.Leave()
	return false
}

// Leave ends what a true Enter began.
func (g *Gate) Leave() {
	if g.inside.Add(-1) == shut {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// Hold shuts the gate and waits for those inside: when it returns nobody is, and until
// Open nobody comes in. It fails, and leaves the gate as it was, when somebody holds it
// already, or when ctx ends first.
func (g *Gate) Hold(ctx context.Context) error {
	for {
		n := g.inside.Load()
		if n >= shut {
			return errors.New("they are held already")
		}
		if g.inside.CompareAndSwap(n, n+shut) {
			break
		}
	}
	for g.inside.Load() != shut {
		select {
		case <-g.empty: // perhaps of an earlier hold
		case <-ctx.Done():
			g.Open()
			return ctx.Err()
		}
	}
	return nil
}

// Open ends what a Hold without an error began.
func (g *Gate) Open() { g.inside.Add(-shut) }
