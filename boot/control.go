package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// ErrUp says that something was refused because the board is up, or may be.
var ErrUp = errors.New("the board is up")

// Stop cuts a board off: its exports end, its roots are unmounted, its uppers
// stay. The board hangs or panics; it may boot again.
func (f *Fleet) Stop(ctx context.Context, serial device.Serial) error {
	b := f.known(serial)
	if b == nil {
		return fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	return f.cutOff(b)
}

// cutOff ends what a board stands on. The caller holds work.
func (f *Fleet) cutOff(b *board) error {
	rec := b.record()
	rec.Up = false
	for i := range rec.Slots {
		rec.Slots[i].Awaits = nil // nor let in, or believed up, because it may have mounted one
	}
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

// UpperInfo is what a reset would delete of one upper.
type UpperInfo struct {
	Upper string           `json:"upper"`
	State record.SlotState `json:"state"`
	Image imageref.Ref     `json:"image"`
	Bytes int64            `json:"bytes"`
	Files int64            `json:"files"`
	Made  time.Time        `json:"made"`
}

// Uppers lists a board's uppers with their sizes. It reads whole trees.
func (f *Fleet) Uppers(ctx context.Context, serial device.Serial) ([]UpperInfo, error) {
	b := f.known(serial)
	if b == nil {
		return nil, fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	var out []UpperInfo
	for _, s := range b.slots() {
		u, err := f.uppers(serial).Usage(ctx, s.UpperID())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("measuring upper %q of board %s: %w", s.UpperID(), serial, err)
		}
		out = append(out, UpperInfo{Upper: string(s.UpperID()), State: s.State, Image: s.Image, Bytes: u.Bytes, Files: u.Files, Made: s.Made})
	}
	ids, err := f.uppers(serial).List()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if slices.ContainsFunc(out, func(u UpperInfo) bool { return u.Upper == string(id) }) {
			continue
		}
		u, err := f.uppers(serial).Usage(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("measuring upper %q of board %s: %w", id, serial, err)
		}
		out = append(out, UpperInfo{Upper: string(id), State: "unlisted", Bytes: u.Bytes, Files: u.Files})
	}
	return out, nil
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
	b := f.known(serial)
	if b == nil {
		return fmt.Errorf("board %s: %w", serial, ErrNotFound)
	}
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	if !o.Force && !f.isDown(ctx, b) {
		return fmt.Errorf("board %s: %w, or nobody can tell", serial, ErrUp)
	}
	if err := b.usable(); err != nil {
		return err
	}
	if err := f.startAnew(ctx, b, o); err != nil {
		return fmt.Errorf("resetting board %s: %w", serial, err)
	}
	if err := f.forgetBoots(b); err != nil {
		f.log.Warn("a reset board's kept boot files stay", "serial", serial, "err", err)
	}
	f.log.Info("board reset", "serial", serial, "forced", o.Force)
	return nil
}
