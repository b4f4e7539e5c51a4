package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/archive"
	"rubus/images/upper"
)

// holdTries is how often a board is held that boots whenever it is.
const holdTries = 10

// taken is one board as it was at one moment.
type taken struct {
	packed  Packed
	parts   []takenPart
	release func() // of its snapshots
}

type takenPart struct {
	Part

	taken *archive.Taken // nil: as in the backup before
}

func (t *taken) close() {
	for _, p := range t.parts {
		if p.taken != nil {
			p.taken.Close()
		}
	}
	t.release()
}

// takeAgain is take, until no boot of the board comes into it.
func (w *writer) takeAgain(serial device.Serial, olds map[string]*oldPart, report *Board) (t *taken, err error) {
	for try := 1; ; try++ {
		*report = Board{Serial: serial}
		t, err = w.take(serial, olds, report)
		if !errors.Is(err, writes.ErrBoots) || try == holdTries {
			return t, err
		}
		wait := time.NewTimer(w.o.Again)
		select {
		case <-wait.C:
		case <-w.ctx.Done():
			wait.Stop()
			return nil, w.ctx.Err()
		}
	}
}

// take looks at a board while it is held, and at its snapshots, which never change.
func (w *writer) take(serial device.Serial, olds map[string]*oldPart, report *Board) (t *taken, err error) {
	t = &taken{}
	if t.release, err = record.KeepSnapshots(w.o.State, serial); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	held, release, err := w.o.Hold(w.ctx, serial)
	if err != nil {
		return t, err
	}
	began := time.Now()
	parts, err := w.takeHeld(held, t, serial, olds)
	report.Held = time.Since(began)
	if rerr := release(); err == nil || rerr != nil && held.Err() != nil {
		err = rerr
	}
	if err != nil {
		return t, err
	}
	for _, p := range parts {
		if err := w.takeSettled(t, p, olds[p.Name]); err != nil {
			return t, err
		}
	}
	report.Snapshots = len(t.packed.Snapshots)
	for _, p := range t.parts {
		if p.taken != nil {
			report.Bytes += p.taken.Size().Bytes
			report.Files += p.taken.Size().Files
		}
	}
	return t, nil
}

// takeHeld takes what may change, and gives the parts that may not.
func (w *writer) takeHeld(ctx context.Context, t *taken, serial device.Serial, olds map[string]*oldPart) (rest []Part, err error) {
	var parts []Part
	if t.packed, parts, err = Pack(w.o.State, w.o.Store, serial); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.Settled {
			rest = append(rest, p)
			continue
		}
		old := archive.List{}
		if o := olds[p.Name]; o != nil {
			old = o.list
		}
		var k *archive.Taken
		if p.Layers == nil {
			k, err = w.takePlain(ctx, p, old)
		} else {
			var tree *upper.Tree
			if tree, err = upper.OpenTree(p.Layers, p.Dir); err == nil {
				k, err = archive.Take(ctx, tree, p.ID, old, w.spool(), w.o.Now(), w.telling(serial))
				tree.Close()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		t.parts = append(t.parts, takenPart{p, k})
	}
	return rest, nil
}

// spool is where what is held is copied to.
func (w *writer) spool() *archive.Spool {
	return &archive.Spool{Dir: w.o.State, Room: func(bytes int64) error {
		return writes.Fits(w.o.State, w.o.Reserve, bytes, true)
	}}
}

func (w *writer) telling(serial device.Serial) func(upper.Size) {
	return func(s upper.Size) { w.o.Progress(serial.String(), s) }
}

// takePlain takes a directory whose files the daemon replaces as it pleases: it is looked
// at again when one went away in between.
func (w *writer) takePlain(ctx context.Context, p Part, old archive.List) (k *archive.Taken, err error) {
	const tries = 5
	for range tries {
		var tree *upper.Tree
		if tree, err = upper.OpenPlain(p.Dir, p.Skip...); err != nil {
			return nil, err
		}
		k, err = archive.Take(ctx, tree, p.ID, old, w.spool(), w.o.Now(), nil)
		tree.Close()
		if err == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESTALE) {
			return k, err
		}
	}
	return nil, err
}

// takeSettled takes a part that never changes: it is read as it is written.
func (w *writer) takeSettled(t *taken, p Part, old *oldPart) error {
	if old != nil && old.id == p.ID {
		t.parts = append(t.parts, takenPart{p, nil})
		return nil
	}
	tree, err := upper.OpenTree(p.Layers, p.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	k, err := archive.TakeOpen(w.ctx, tree, p.ID, w.o.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	t.parts = append(t.parts, takenPart{p, k})
	return nil
}
