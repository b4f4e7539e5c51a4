package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/nfsexport"
)

// Hold keeps what a board wrote as it is, its root and its record, until release is called: the
// changes of a board that runs wait, without an error. A board that boots or mounts its root
// does not: then held ends, all is let go, and release gives ErrBoots. The error wraps
// ErrNotFound for a board that was never seen.
func (f *Fleet) Hold(ctx context.Context, serial device.Serial) (held context.Context, release func() error, err error) {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return nil, nil, err
	}
	held, done := b.work.Yields(ctx, turn.Files)
	ends := []func(){b.work.Unlock, func() { _ = done(nil) }}
	end := sync.OnceFunc(func() {
		for _, e := range slices.Backward(ends) {
			e()
		}
	})
	if err := f.holdWrites(held, b, &ends); err != nil {
		if errors.Is(context.Cause(held), ErrBoots) {
			err = ErrBoots
		}
		end()
		return nil, nil, fmt.Errorf("holding the writes of board %s: %w", serial, err)
	}
	context.AfterFunc(held, end)
	return held, func() error {
		gone := errors.Is(context.Cause(held), ErrBoots)
		if end(); gone {
			return ErrBoots
		}
		return nil
	}, nil
}

func (f *Fleet) holdWrites(ctx context.Context, b *board, ends *[]func()) error {
	if err := b.usable(); err != nil {
		return err
	}
	rec := b.record()
	for _, s := range rec.Persistent() {
		r, err := f.opt.Exporter.Hold(ctx, s.Export)
		if errors.Is(err, nfsexport.ErrCalled) {
			return fmt.Errorf("%w: %w", ErrUp, err)
		}
		if err != nil {
			return err
		}
		*ends = append(*ends, r)
	}
	return ctx.Err()
}
