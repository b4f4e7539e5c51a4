package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/overlay"
)

// maxRecord bounds what is read of a device.json, in bytes.
const maxRecord = 1 << 20

// recordFile is the name of a board's record in its directory.
const recordFile = "device.json"

// SlotState says what a slot is to its board.
type SlotState string

// The states of a slot.
const (
	// SlotNext was prepared for a boot that has not mounted it yet.
	SlotNext SlotState = "next"
	// SlotCurrent is the root the board mounted last.
	SlotCurrent SlotState = "current"
	// SlotOld was the board's root; it goes when its export has been quiet.
	SlotOld SlotState = "old"
	// SlotParked holds writes that are kept while the board uses another slot.
	SlotParked SlotState = "parked"
)

// Slot is one upper over one base with the export that offers it.
type Slot struct {
	// N counts a board's slots from 1; it is never used twice.
	N     int       `json:"n"`
	State SlotState `json:"state"`
	// Image is the version the base was taken from; always with its number.
	Image imageref.Ref `json:"image"`
	Base  overlay.Base `json:"base"`
	// Boot is where the version has its boot files, relative to the root.
	Boot      string       `json:"boot"`
	Ephemeral bool         `json:"ephemeral,omitempty"`
	Export    nfsexport.ID `json:"export"`
	Made      time.Time    `json:"made"`
	// Mounted is when the board last mounted the slot; zero: never.
	Mounted time.Time `json:"mounted,omitzero"`
	// Aside, when not "", is the note of the snapshot that the slot is to become, as soon
	// as nothing stands on it: no boot takes it up again.
	Aside string `json:"aside,omitempty"`
	// Retired is when the slot stopped being the board's root.
	Retired time.Time `json:"retired,omitzero"`
	// Async and InsecurePorts are how the root was offered when the board
	// mounted it: a change of the settings holds from its next MOUNT.
	Async         bool `json:"async,omitempty"`
	InsecurePorts bool `json:"insecure_ports,omitempty"`
	// Awaits are the addresses from which the board may mount the slot unasked,
	// until it is seen to; see unasked.go. They are replaced, not changed.
	Awaits []netip.Addr `json:"awaits,omitempty"`
}

// isOffer says that the slot is nobody's until a board mounts it.
func (s *Slot) isOffer() bool { return s.State == SlotNext && s.Mounted.IsZero() }

// Record is what device.json says of a board.
type Record struct {
	Version int           `json:"version"`
	Serial  device.Serial `json:"serial"`
	// MAC and Address are the board's binding: who may be this board.
	MAC     device.MAC `json:"mac,omitzero"`
	Address netip.Addr `json:"address,omitzero"`
	// Up says that the board mounted its root and was not stopped since: its
	// slots are mounted and published at start, before the NFS port opens.
	Up       bool `json:"up"`
	LastSlot int  `json:"last_slot"`
	// Replaces is the board whose state this was.
	Replaces device.Serial `json:"replaces,omitzero"`
	// Move is the board's last rebase; nil: none.
	Move  *Move  `json:"move,omitempty"`
	Slots []Slot `json:"slots"`
}

// slot is the slot with number n, or nil.
func (r *Record) slot(n int) *Slot {
	for i := range r.Slots {
		if r.Slots[i].N == n {
			return &r.Slots[i]
		}
	}
	return nil
}

// inState is the newest slot in a state, or nil.
func (r *Record) inState(st SlotState) *Slot {
	for i := len(r.Slots) - 1; i >= 0; i-- {
		if r.Slots[i].State == st {
			return &r.Slots[i]
		}
	}
	return nil
}

// persistent lists the slots that hold, or are to hold, writes that are kept:
// the current one first, then the newest.
func (r *Record) persistent() []Slot {
	var out []Slot
	for i := len(r.Slots) - 1; i >= 0; i-- {
		switch s := r.Slots[i]; {
		case s.Ephemeral || s.State == SlotOld || r.isLeft(&s):
		case s.State == SlotCurrent:
			out = slices.Insert(out, 0, s)
		default:
			out = append(out, s)
		}
	}
	return out
}

func (r *Record) clone() Record {
	c := *r
	c.Slots = slices.Clone(r.Slots)
	if r.Move != nil {
		m := *r.Move
		c.Move = &m
	}
	return c
}

// drop takes a slot out of the record.
func (r *Record) drop(n int) {
	if r.Move != nil {
		r.Move.gone(n, 0)
	}
	r.Slots = slices.DeleteFunc(r.Slots, func(s Slot) bool { return s.N == n })
}

// has says whether an address is the board's, or one that it is awaited at.
func (r *Record) has(addr netip.Addr) bool {
	return r.Address == addr || slices.ContainsFunc(r.Slots, func(s Slot) bool { return slices.Contains(s.Awaits, addr) })
}

// lose makes an address not the board's.
func (r *Record) lose(addr netip.Addr) {
	if r.Address == addr {
		r.Address = netip.Addr{}
	}
	for i := range r.Slots {
		s := &r.Slots[i]
		s.Awaits = slices.DeleteFunc(slices.Clone(s.Awaits), func(a netip.Addr) bool { return a == addr })
	}
}

// Paths of a board below the state directory.
type boardPaths struct{ state, serial string }

func pathsOf(state string, s device.Serial) boardPaths { return boardPaths{state, s.String()} }

func (p boardPaths) dir() string    { return filepath.Join(p.state, "devices", p.serial) }
func (p boardPaths) record() string { return filepath.Join(p.dir(), recordFile) }
func (p boardPaths) roots() string  { return filepath.Join(p.state, "roots", p.serial) }
func (p boardPaths) root(n int) string {
	return filepath.Join(p.roots(), fmt.Sprint(n))
}

// upperID names the upper of a slot: the base it was written over and the slot.
func (s *Slot) upperID() overlay.UpperID { return overlay.MakeUpperID(s.Base.ID, s.N) }

// exportPath is what the board gives to MNT for a slot.
func exportPath(serial device.Serial, n int) string { return fmt.Sprintf("/%s/%d", serial, n) }

// loadRecord reads a board's device.json; a board without one has an empty record.
func loadRecord(state string, serial device.Serial) (Record, error) {
	empty := Record{Version: recordVersion, Serial: serial}
	path := pathsOf(state, serial).record()
	r, err := recordAt(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return empty, nil
	case err != nil:
		return empty, err
	case r.Serial != serial:
		return empty, fmt.Errorf("the board's record %q is that of board %q", path, r.Serial)
	}
	return r, nil
}

// recordAt reads one device.json.
func recordAt(path string) (Record, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Record{}, fmt.Errorf("reading the board's record: %w", err)
	}
	if fi.Size() > maxRecord {
		return Record{}, fmt.Errorf("reading the board's record: %q is larger than %d bytes", path, maxRecord)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("reading the board's record: %w", err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return Record{}, fmt.Errorf("reading the board's record %q: %w", path, err)
	}
	return r, nil
}

// saveRecord puts the record on disk: whole, and before it returns.
func saveRecord(state string, r *Record) error {
	return writeRecord(pathsOf(state, r.Serial), r)
}

// writeRecord is saveRecord to the directory of another board.
func writeRecord(p boardPaths, r *Record) error { return writeRecordIn(p.dir(), r) }

func writeRecordIn(dir string, r *Record) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	b, err := r.encode()
	if err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, recordFile), b, 0o600); err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	// renameio syncs the file; the name is safe once the directory is.
	return syncDirs(dir, filepath.Dir(dir))
}

func syncDirs(dirs ...string) error {
	for _, d := range dirs {
		f, err := os.Open(d)
		if err != nil {
			return fmt.Errorf("syncing a directory: %w", err)
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return fmt.Errorf("syncing %q: %w", d, err)
		}
	}
	return nil
}

// recordedSerials lists the boards that have a directory in the state directory.
func recordedSerials(state string) ([]device.Serial, error) {
	entries, err := os.ReadDir(filepath.Join(state, "devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the boards: %w", err)
	}
	var out []device.Serial
	for _, e := range entries {
		// A name that is no serial in its own spelling is not ours.
		if s, err := device.ParseSerial(e.Name()); err == nil && s.String() == e.Name() && e.IsDir() {
			out = append(out, s)
		}
	}
	return out, nil
}

// Uses tells the image store which versions and layers boards stand on. A
// record that cannot be read is an error: then nothing may be removed.
func Uses(state string) ([]images.Use, error) {
	serials, err := recordedSerials(state)
	if err != nil {
		return nil, err
	}
	var uses []images.Use
	for _, s := range serials {
		r, err := loadRecord(state, s)
		if err != nil {
			return nil, err
		}
		for _, slot := range r.Slots {
			uses = append(uses, images.Use{
				Ref: slot.Image, Layers: slices.Clone(slot.Base.Digests),
				Who: fmt.Sprintf("board %s (%s root)", s, strings.ToLower(string(slot.State))),
			})
		}
		if m := r.Move; m != nil && !m.IsOver() {
			uses = append(uses, images.Use{Ref: m.To, Layers: slices.Clone(m.Layers), Who: fmt.Sprintf("board %s (to move to it)", s)})
		}
		snapshots, err := loadSnapshots(state, s)
		if err != nil {
			return nil, err
		}
		for _, snap := range snapshots {
			uses = append(uses, images.Use{
				Ref: snap.Image, Layers: slices.Clone(snap.Base.Digests), Who: fmt.Sprintf("board %s (snapshot %d)", s, snap.N),
			})
		}
	}
	return uses, nil
}
