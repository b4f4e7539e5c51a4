package boot

import (
	"context"
	"errors"
	"slices"

	"rubus/boot/writes"
)

// ErrBoots: work on what a board wrote was given up because the board began to boot, or
// mounted its root.
var ErrBoots = writes.ErrBoots

// need is what a board needs its slots for, while somebody may copy what it wrote.
type need int

const (
	needFiles need = iota // of a boot that begins
	needMount             // the root that it booted with, or the same from another address
)

// yielding is work that is given up when the board needs something of at least this kind.
type yielding struct {
	to     need
	cancel context.CancelCauseFunc
}

// yields is a context of work that gives way, with ErrBoots, to what the board needs: to
// files and to a MOUNT, or to a MOUNT alone, where a boot waits for what is made for it. done
// ends that, and makes an error that came of it ErrBoots. The caller holds work.
func (b *board) yields(ctx context.Context, to need) (_ context.Context, done func(error) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	y := &yielding{to, cancel}
	b.mu.Lock()
	b.yielding = append(b.yielding, y)
	for n, waits := range b.needs {
		if waits > 0 && need(n) >= to {
			cancel(ErrBoots) // it came before
		}
	}
	b.mu.Unlock()
	return ctx, func(err error) error {
		b.mu.Lock()
		b.yielding = slices.DeleteFunc(b.yielding, func(o *yielding) bool { return o == y })
		b.mu.Unlock()
		if err != nil && errors.Is(context.Cause(ctx), ErrBoots) {
			err = ErrBoots
		}
		cancel(nil)
		return err
	}
}

// lockFor is lock for what the board needs: it ends work that gives way to that.
func (b *board) lockFor(ctx context.Context, n need) error {
	b.mu.Lock()
	b.needs[n]++
	b.makeWayLocked(n)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.needs[n]--
		b.mu.Unlock()
	}()
	return b.lock(ctx)
}

// makeWay ends work that gives way to what the board needs, for those who come again.
func (b *board) makeWay(n need) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.makeWayLocked(n)
}

// makeWayLocked is makeWay for those who hold b.mu.
func (b *board) makeWayLocked(n need) {
	for _, y := range b.yielding {
		if n >= y.to {
			y.cancel(ErrBoots)
		}
	}
}
