package boot

import (
	"context"
	"fmt"
	"slices"

	"rubus/config/device"
)

// Hold keeps what a board wrote as it is, its root and its record, until release is called: the
// changes of a board that runs wait, without an error. The error wraps ErrNotFound for a board
// that was never seen.
func (f *Fleet) Hold(ctx context.Context, serial device.Serial) (release func(), err error) {
	b := f.known(serial)
	if b == nil {
		return nil, fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return nil, err
	}
	held := []func(){b.unlock}
	release = func() {
		for _, r := range slices.Backward(held) {
			r()
		}
	}
	if err := b.usable(); err != nil {
		release()
		return nil, err
	}
	rec := b.record()
	for _, s := range rec.Persistent() {
		r, err := f.opt.Exporter.Hold(ctx, s.Export)
		if err != nil {
			release()
			return nil, fmt.Errorf("holding the writes of board %s: %w", serial, err)
		}
		held = append(held, r)
	}
	return release, nil
}
