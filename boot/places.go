package boot

import (
	"fmt"

	"rubus/config/device"
)

// Place is where the writes of one slot lie on this machine.
type Place struct {
	Slot

	// UpperDir holds the upper and its work directory; see overlay.Uppers.
	UpperDir string
	// Layers are the directories of the base, the bottom one first.
	Layers []string
}

// Places lists where a board's writes lie, as device.json says it: the current
// root first, then the newest. It changes nothing and needs no daemon.
func Places(state string, store Store, serial device.Serial) ([]Place, error) {
	rec, err := loadRecord(state, serial)
	if err != nil {
		return nil, err
	}
	f := &Fleet{opt: Options{State: state, Store: store}}
	var out []Place
	for _, s := range append(rec.persistent(), rec.ephemeral()...) {
		spec := f.spec(serial, s)
		out = append(out, Place{Slot: s, UpperDir: spec.UpperDir, Layers: spec.LayerDirs})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("board %s: it has no root, and no writes: %w", serial, ErrNotFound)
	}
	return out, nil
}

// ephemeral lists the slots whose writes are not kept, the newest first.
func (r *Record) ephemeral() []Slot {
	var out []Slot
	for i := len(r.Slots) - 1; i >= 0; i-- {
		if s := r.Slots[i]; s.Ephemeral && s.State != SlotOld {
			out = append(out, s)
		}
	}
	return out
}

// SnapshotPlace is where a snapshot of a board lies, as Places does for its roots.
func SnapshotPlace(state string, store Store, serial device.Serial, n int) (Place, error) {
	dir := pathsOf(state, serial).snapshot(n)
	s, err := readSnapshot(dir)
	if err != nil {
		return Place{}, err
	}
	f := &Fleet{opt: Options{State: state, Store: store}}
	return Place{
		Slot:     Slot{N: n, State: SlotParked, Image: s.Image, Base: s.Base, Boot: s.Boot, Made: s.Made, Mounted: s.Made},
		UpperDir: dir, Layers: f.layerDirs(s.Base.Digests),
	}, nil
}
