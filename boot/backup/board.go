package backup

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/overlay"
)

// Packed is what a backup says of one board beside its trees.
type Packed struct {
	Serial device.Serial `json:"serial"`
	// Record is device.json as far as it is of use elsewhere: the slots whose writes are kept.
	Record json.RawMessage `json:"record"`
	// Snapshots are what is kept of it.
	Snapshots []record.Snapshot `json:"snapshots,omitempty"`
}

// Part is a tree of a board that a backup has: its Name is the same in each.
type Part struct {
	Name string
	// ID tells it from others that had the name. Settled says that what has this ID never changes.
	ID      string
	Settled bool
	// Dir holds the upper over Layers. Without layers it is a directory of plain files,
	// without those in Skip.
	Dir    string
	Layers []string
	Skip   []string
	// Made is when the writes were begun, or the snapshot taken.
	Made time.Time
}

// Names of the parts, and of what a board's directory has that is no file of its own.
const (
	rootPart     = "root-%d"
	snapshotPart = "snapshot-%d"
	filesPart    = "files"
)

// Pack says what is to be backed up of a board. Nobody may change the board
// meanwhile: see Options.Hold. It changes nothing and needs no daemon.
func Pack(state string, layers writes.Layers, serial device.Serial) (Packed, []Part, error) {
	out := Packed{Serial: serial}
	rec, err := record.Load(state, serial)
	if err != nil {
		return out, nil, err
	}
	b := writes.Board{State: state, Serial: serial, Layers: layers}
	var parts []Part
	var slots []record.Slot
	for _, s := range rec.Kept() {
		empty, err := b.IsEmpty(s)
		if err != nil {
			return out, nil, fmt.Errorf("board %s: %w", serial, err)
		}
		if empty {
			continue
		}
		spec := b.Spec(s)
		slots = append(slots, s)
		parts = append(parts, Part{
			Name: fmt.Sprintf(rootPart, s.N), ID: s.Export.String(), Dir: spec.UpperDir, Layers: spec.LayerDirs, Made: s.Made,
		})
	}
	rec.Slots, rec.Move, rec.Up = slots, nil, false
	if out.Record, err = rec.Encode(); err != nil {
		return out, nil, err
	}
	if out.Snapshots, err = record.LoadSnapshots(state, serial); err != nil {
		return out, nil, err
	}
	p := record.PathsOf(state, serial)
	for _, s := range out.Snapshots {
		parts = append(parts, Part{
			Name: fmt.Sprintf(snapshotPart, s.N), ID: fmt.Sprintf("%d %s %s", s.N, s.Base.ID, s.Made.Format(time.RFC3339Nano)), Settled: true,
			Dir: p.Snapshot(s.N), Layers: writes.LayerDirs(layers, s.Base.Digests), Made: s.Made,
		})
	}
	return out, append(parts, Part{Name: filesPart, ID: filesPart, Dir: p.Dir(), Skip: writes.NotFiles()}), nil
}

// Find gives the version of this store that has the layers; wanted is what it was called
// where the backup was made.
type Find func(wanted imageref.Ref, digests []string) (imageref.Ref, error)

// Bound is a board of a backup, bound to the layers of this machine. Its parts are put
// below a directory as Place says, then Write makes that directory a board's.
type Bound struct {
	Serial    device.Serial
	rec       record.Record
	snapshots []record.Snapshot
}

// Bind binds a board of a backup, which is not trusted, to the layers that find and layers
// say. Its export ids are new: handles that a board holds are refused.
func Bind(p Packed, layers writes.Layers, find Find) (*Bound, error) {
	rec, err := record.Decode(p.Record)
	if err != nil {
		return nil, fmt.Errorf("the record of board %s in the backup: %w", p.Serial, err)
	}
	if rec.Serial != p.Serial || p.Serial.IsZero() {
		return nil, fmt.Errorf("the record of board %q in the backup is that of %q", p.Serial, rec.Serial)
	}
	bind := func(ref imageref.Ref, base overlay.Base) (imageref.Ref, overlay.Base, error) {
		now, err := find(ref, base.Digests)
		if err != nil {
			return ref, base, err
		}
		b, err := overlay.BaseOf(base.Digests, writes.LayerDirs(layers, base.Digests))
		return now, b, err
	}
	out := &Bound{Serial: p.Serial, rec: rec}
	out.rec.Up, out.rec.Address, out.rec.Move = false, netip.Addr{}, nil
	for i := range out.rec.Slots {
		s := &out.rec.Slots[i]
		if s.Image, s.Base, err = bind(s.Image, s.Base); err != nil {
			return nil, fmt.Errorf("the root of board %s: %w", p.Serial, err)
		}
		s.State, s.Export, s.Ephemeral = record.SlotParked, record.NewExportID(), false
	}
	seen := map[int]bool{}
	for _, s := range p.Snapshots {
		if s.N < 1 || seen[s.N] {
			return nil, fmt.Errorf("board %s has a snapshot %d in the backup, or two of them", p.Serial, s.N)
		}
		seen[s.N] = true
		if s.Image, s.Base, err = bind(s.Image, s.Base); err != nil {
			return nil, fmt.Errorf("snapshot %d of board %s: %w", s.N, p.Serial, err)
		}
		s.SetAside = false // its index stayed behind
		out.snapshots = append(out.snapshots, s)
	}
	return out, out.rec.Check()
}

// Place is where a part goes below the board's new directory; ok is false for one that the
// board does not have.
func (b *Bound) Place(part string) (rel string, ok bool) {
	for i := range b.rec.Slots {
		if s := &b.rec.Slots[i]; part == fmt.Sprintf(rootPart, s.N) {
			return filepath.Join("uppers", string(s.UpperID()), "upper"), true
		}
	}
	for _, s := range b.snapshots {
		if part == fmt.Sprintf(snapshotPart, s.N) {
			return filepath.Join("snapshots", fmt.Sprint(s.N), "upper"), true
		}
	}
	return "", part == filesPart
}

// Parts are the names of the parts that the board must have.
func (b *Bound) Parts() (out []string) {
	for i := range b.rec.Slots {
		out = append(out, fmt.Sprintf(rootPart, b.rec.Slots[i].N))
	}
	for _, s := range b.snapshots {
		out = append(out, fmt.Sprintf(snapshotPart, s.N))
	}
	return append(out, filesPart)
}

// Summary says what the board will have.
func (b *Bound) Summary() (image imageref.Ref, roots, snapshots int) {
	if own := b.rec.Persistent(); len(own) > 0 {
		image, roots = own[0].Image, len(own)
	}
	return image, roots, len(b.snapshots) + len(b.rec.Slots) - roots
}

// Write makes the directory dir, where the parts are in their places, that of a board: it
// may be renamed to devices/SERIAL.
func (b *Bound) Write(dir string) error {
	for i := range b.rec.Slots {
		id := string(b.rec.Slots[i].UpperID())
		if err := os.MkdirAll(filepath.Join(dir, "uppers", id, "work"), 0o700); err != nil {
			return err
		}
		if err := record.SyncDirs(filepath.Join(dir, "uppers", id), filepath.Join(dir, "uppers")); err != nil {
			return err
		}
	}
	for _, s := range b.snapshots {
		at := filepath.Join(dir, "snapshots", fmt.Sprint(s.N))
		if err := record.WriteSnapshot(at, s); err != nil {
			return err
		}
		if err := record.SyncDirs(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return record.SaveIn(dir, &b.rec)
}
