package writes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/overlay"
)

// Place is where the writes of one slot lie on this machine.
type Place struct {
	record.Slot

	// UpperDir holds the upper and its work directory; see overlay.Uppers.
	UpperDir string
	// Layers are the directories of the base, the bottom one first.
	Layers []string
}

// IsEmpty says whether the board wrote nothing there: what it was given of its identity
// does not count.
func (p Place) IsEmpty() (bool, error) {
	dir, name := filepath.Split(p.UpperDir)
	empty, err := overlay.Uppers{Dir: dir}.IsEmpty(overlay.UpperID(name))
	if errors.Is(err, fs.ErrNotExist) && p.Mounted.IsZero() {
		return true, nil // never made
	}
	if err == nil && !empty {
		return onlySeeded(p.UpperDir)
	}
	return empty, err
}

// Places lists where a board's writes lie, as device.json says it: the current
// root first, then the newest. It changes nothing and needs no daemon.
func Places(state string, layers Layers, serial device.Serial) ([]Place, error) {
	rec, err := record.Load(state, serial)
	if err != nil {
		return nil, err
	}
	b := Board{State: state, Serial: serial, Layers: layers}
	var out []Place
	for _, s := range append(rec.Persistent(), rec.Ephemeral()...) {
		spec := b.Spec(s)
		out = append(out, Place{Slot: s, UpperDir: spec.UpperDir, Layers: spec.LayerDirs})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("board %s: it has no root, and no writes: %w", serial, record.ErrNotFound)
	}
	return out, nil
}

// RecordedAddress is the address that a board booted from last; the zero Addr when there
// is none. It needs no daemon.
func RecordedAddress(state string, serial device.Serial) netip.Addr {
	rec, err := record.Load(state, serial)
	if err != nil {
		return netip.Addr{}
	}
	return rec.Address
}

// SnapshotPlace is where a snapshot of a board lies, as Places does for its roots.
func SnapshotPlace(state string, layers Layers, serial device.Serial, n int) (Place, error) {
	dir := record.PathsOf(state, serial).Snapshot(n)
	s, err := record.ReadSnapshot(dir)
	if err != nil {
		return Place{}, err
	}
	return Place{
		Slot:     record.Slot{N: n, State: record.SlotParked, Image: s.Image, Base: s.Base, Boot: s.Boot, Made: s.Made, Mounted: s.Made},
		UpperDir: dir, Layers: LayerDirs(layers, s.Base.Digests),
	}, nil
}

// Kept is what lies on the disk of one board.
type Kept struct {
	Serial    device.Serial `json:"serial"`
	Roots     int           `json:"roots"`
	RootBytes int64         `json:"root_bytes"`
	RootFiles int64         `json:"root_files"`
	Snapshots int           `json:"snapshots"`
	KeptBytes int64         `json:"snapshot_bytes"`
}

// KeptOfAll measures what every board has on the disk, by serial. It reads whole trees;
// it changes nothing and needs no daemon.
func KeptOfAll(ctx context.Context, state string) ([]Kept, error) {
	serials, err := record.Serials(state)
	if err != nil {
		return nil, err
	}
	out := []Kept{}
	for _, s := range serials {
		k := Kept{Serial: s}
		u := overlay.UppersOf(filepath.Join(state, "devices"), s)
		ids, err := u.List()
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			size, err := overlay.Footprint(ctx, u.Path(id))
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			k.Roots++
			k.RootBytes += size.Bytes
			k.RootFiles += size.Files
		}
		snapshots, err := record.LoadSnapshots(state, s)
		if err != nil {
			return nil, err
		}
		for _, snap := range snapshots {
			k.Snapshots++
			k.KeptBytes += snap.Bytes
		}
		out = append(out, k)
	}
	return out, nil
}
