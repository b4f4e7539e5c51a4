package boot

import (
	"context"
	"errors"
	"fmt"

	"rubus/boot/carry"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/images/upper"
)

// resetNote is the note of what a reset has set aside.
const resetNote = "before a reset"

// startAnew sets aside what a board wrote. What it changed at or below the paths to keep
// becomes a new upper over the image as it is tagged now. The caller holds work, and
// the board is down or may be cut off.
func (f *Fleet) startAnew(ctx context.Context, b *board, o ResetOptions) error {
	slot, err := f.disk(b.serial).Written(b.record())
	if len(o.Keep) == 0 || errors.Is(err, writes.ErrNothing) {
		return f.setAside(ctx, b, b.record(), resetNote, nil)
	}
	if err != nil {
		return err
	}
	dev := f.wanted(b.serial)
	switch {
	case dev == nil:
		return fmt.Errorf("nothing can be kept: devices.yaml gives the board no image: %w", ErrRefused)
	case dev.Ephemeral:
		return fmt.Errorf("nothing can be kept: the board is ephemeral: %w", ErrRefused)
	}
	// The version may not go before the record names it.
	release, err := f.opt.Store.Hold(ctx)
	if err != nil {
		return fmt.Errorf("holding the image store: %w", err)
	}
	defer release()
	w, err := f.want(dev)
	if err != nil {
		return err
	}
	c := f.carrier(b.serial)
	// Looked at before the board is cut off, for what there is to refuse, and then once more.
	err = c.Part(ctx, slot, w.Base, o.Keep, func(d upper.Delta) error { return c.Fits(carry.Bytes(d.Changes)) })
	if err != nil {
		return err
	}
	if err := f.cutOff(b); err != nil {
		return err
	}
	next := record.Slot{Image: w.Image, Base: w.Base, Boot: w.Boot}
	return c.Part(ctx, slot, w.Base, o.Keep, func(d upper.Delta) error {
		return f.replaceWith(ctx, b, next, resetNote, func(ctx context.Context, to string) error {
			_, err := upper.Build(ctx, to, d, o.Progress)
			return err
		})
	})
}
