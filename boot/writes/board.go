package writes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/overlay"
)

// ErrBoots: work on what a board wrote was given up because the board began to boot.
var ErrBoots = errors.New("the board began to boot")

// Layers says where layers lie.
type Layers interface {
	LayerDir(digest string) string
}

// Board is the files of one board below the state directory.
type Board struct {
	State  string
	Serial device.Serial
	Layers Layers
	// Fresh is told of each new upper, see overlay.Uppers; nil: nobody is.
	Fresh func(dir string) error
}

func (b Board) paths() record.Paths { return record.PathsOf(b.State, b.Serial) }

// Uppers is where the uppers of the board are.
func (b Board) Uppers() overlay.Uppers {
	u := overlay.UppersOf(filepath.Join(b.State, "devices"), b.Serial)
	u.Fresh = b.Fresh
	return u
}

// Spec is the overlay of a slot.
func (b Board) Spec(s record.Slot) overlay.Spec {
	id := s.UpperID()
	return overlay.Spec{
		Serial: b.Serial, Base: s.Base, LayerDirs: LayerDirs(b.Layers, s.Base.Digests),
		UpperDir: b.Uppers().Path(id), UpperID: id, Target: b.paths().Root(s.N),
	}
}

// LayerDirs is where layers lie, in their order.
func LayerDirs(l Layers, digests []string) []string {
	dirs := make([]string, len(digests))
	for i, d := range digests {
		dirs[i] = l.LayerDir(d)
	}
	return dirs
}

// IsEmpty says whether a slot's upper holds nothing of the board's own; one that was
// never made holds nothing.
func (b Board) IsEmpty(s record.Slot) (bool, error) {
	empty, err := b.Uppers().IsEmpty(s.UpperID())
	if errors.Is(err, fs.ErrNotExist) && s.Mounted.IsZero() {
		return true, nil
	}
	if err == nil && !empty {
		return onlySeeded(b.Uppers().Path(s.UpperID()))
	}
	return empty, err
}

// CountUppers makes sure that a new slot's number is that of no upper on disk,
// also of one that the record does not name.
func (b Board) CountUppers(rec *record.Record) error {
	ids, err := b.Uppers().List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		rec.LastSlot = max(rec.LastSlot, id.N())
	}
	return nil
}

// Written is the slot whose writes are the board's: its present root's, or those
// that it would boot with. The error wraps ErrNothing when it wrote nothing.
func (b Board) Written(rec record.Record) (record.Slot, error) {
	for _, s := range append(rec.Persistent(), rec.Ephemeral()...) {
		isEmpty, err := b.IsEmpty(s)
		if err != nil {
			return record.Slot{}, err
		}
		if !isEmpty {
			return s, nil
		}
	}
	return record.Slot{}, fmt.Errorf("board %s has written %w", b.Serial, ErrNothing)
}

// ErrNothing: the board wrote nothing.
var ErrNothing = errors.New("nothing")

// SlotOf is the slot of an upper; nil: no slot names it.
func SlotOf(slots []record.Slot, id overlay.UpperID) *record.Slot {
	for i := range slots {
		if slots[i].UpperID() == id {
			return &slots[i]
		}
	}
	return nil
}

// Exists says whether anything is kept of the board.
func (b Board) Exists() (bool, error) {
	_, err := os.Lstat(b.paths().Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
