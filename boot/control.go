package boot

import (
	"context"
	"errors"
	"fmt"

	"rubus/boot/phase"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/upper"
)

// ErrUp says that something was refused because the board is up, or may be.
var ErrUp = errors.New("the board is up")

// find is a board that something is known of; the error wraps ErrNotFound.
func (f *Fleet) find(serial device.Serial) (*board, error) {
	if b := f.known(serial); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("board %s: %w", serial, ErrNotFound)
}

// forWork is find with work locked, for those who change what the board stands on.
func (f *Fleet) forWork(ctx context.Context, serial device.Serial) (*board, error) {
	b, err := f.find(serial)
	if err == nil {
		err = b.work.Lock(ctx)
	}
	return b, err
}

// Stop cuts a board off: its exports end, its roots are unmounted, its uppers
// stay. The board hangs or panics; it may boot again.
func (f *Fleet) Stop(ctx context.Context, serial device.Serial) error {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return err
	}
	defer b.work.Unlock()
	return f.cutOff(b)
}

// cutOff ends what a board stands on. The caller holds work.
func (f *Fleet) cutOff(b *board) error {
	rec := b.record()
	rec.Up = false
	rec.AwaitNothing() // nor let in, or believed up, because it may have mounted a slot
	// Written first: after a crash here the board is not taken up again.
	if err := f.store(b, rec); err != nil {
		return err
	}
	var errs []error
	for _, s := range rec.Slots {
		errs = append(errs, f.release(b, s))
	}
	b.mu.Lock()
	b.ev = phase.Evidence{Stopped: f.opt.Now()}
	b.pinned, b.problem = 0, ""
	b.mu.Unlock()
	f.log.Info("board cut off", "serial", b.serial)
	f.observe(b.serial, rec.MAC, "stopped", "")
	return errors.Join(errs...)
}

// Uppers lists a board's uppers with their sizes. It reads whole trees.
func (f *Fleet) Uppers(ctx context.Context, serial device.Serial) ([]writes.UpperInfo, error) {
	b, err := f.find(serial)
	if err != nil {
		return nil, err
	}
	return f.disk(serial).Measure(ctx, b.slots())
}

// ResetOptions are how a board is reset.
type ResetOptions struct {
	// Force cuts the board off first when it is up, or may be.
	Force bool
	// Keep are paths: what the board changed at or below one it has afterwards, too, over
	// the image as it is then.
	Keep []string
	// Progress, which may be nil, is told how much of that is copied.
	Progress func(upper.Size)
}

// Reset sets a board's uppers aside, as snapshots that go after Options.KeepAside, so
// that its next boot starts from its image as tagged then. It is refused while the
// board is up or may be, unless forced.
func (f *Fleet) Reset(ctx context.Context, serial device.Serial, o ResetOptions) error {
	b, err := f.forWork(ctx, serial)
	if err != nil {
		return err
	}
	defer b.work.Unlock()
	if !o.Force && !f.isDown(ctx, b) {
		return fmt.Errorf("board %s: %w, or nobody can tell", serial, ErrUp)
	}
	if err := b.usable(); err != nil {
		return err
	}
	if err := f.startAnew(ctx, b, o); err != nil {
		return fmt.Errorf("resetting board %s: %w", serial, err)
	}
	if err := b.boots().Forget(); err != nil {
		f.log.Warn("a reset board's kept boot files stay", "serial", serial, "err", err)
	}
	f.log.Info("board reset", "serial", serial, "forced", o.Force)
	return nil
}
