package record

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/overlay"
)

// maxRecord bounds what is read of a device.json, in bytes.
const maxRecord = 1 << 20

// File is the name of a board's record in its directory.
const File = "device.json"

// ErrNotFound: there is no such board, slot, snapshot, export or file.
var ErrNotFound = errors.New("not found")

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

// IsOffer says that the slot is nobody's until a board mounts it.
func (s *Slot) IsOffer() bool { return s.State == SlotNext && s.Mounted.IsZero() }

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
	// Former are all boards whose state this was, the first one first.
	Former []device.Serial `json:"former,omitempty"`
	// Move is the board's last rebase; nil: none.
	Move  *Move  `json:"move,omitempty"`
	Slots []Slot `json:"slots"`
}

// Slot is the slot with number n, or nil.
func (r *Record) Slot(n int) *Slot {
	for i := range r.Slots {
		if r.Slots[i].N == n {
			return &r.Slots[i]
		}
	}
	return nil
}

// InState is the newest slot in a state, or nil.
func (r *Record) InState(st SlotState) *Slot {
	for i := len(r.Slots) - 1; i >= 0; i-- {
		if r.Slots[i].State == st {
			return &r.Slots[i]
		}
	}
	return nil
}

// Persistent lists the slots that hold, or are to hold, writes that are kept:
// the current one first, then the newest.
func (r *Record) Persistent() []Slot {
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

// Ephemeral lists the slots whose writes are not kept, the newest first.
func (r *Record) Ephemeral() []Slot {
	var out []Slot
	for i := len(r.Slots) - 1; i >= 0; i-- {
		if s := r.Slots[i]; s.Ephemeral && s.State != SlotOld {
			out = append(out, s)
		}
	}
	return out
}

// Kept lists the slots whose writes are kept: those that the board may boot with first, then
// those that are to become snapshots. A move of the board to another version is
// over: it has what it boots with now.
func (r *Record) Kept() []Slot {
	out := r.Persistent()
	for _, s := range r.Slots {
		if s.Ephemeral || s.State == SlotOld || !r.isLeft(&s) {
			continue
		}
		if s.Aside == "" {
			s.Aside = RebaseNote + r.Move.To.String()
		}
		out = append(out, s)
	}
	return out
}

// TakeOver makes the state of another board, which the record was, that of board now: it
// is to be moved there.
func (r *Record) TakeOver(now device.Serial) {
	former := append(slices.Clone(r.Former), r.Serial)
	r.Former = slices.DeleteFunc(former, func(s device.Serial) bool { return s == now })
	r.Serial, r.Replaces = now, r.Serial
}

// HasReplaced lists the boards that this one took the place of.
func (r *Record) HasReplaced() []device.Serial {
	if r.Replaces.IsZero() || slices.Contains(r.Former, r.Replaces) {
		return r.Former
	}
	return append(slices.Clone(r.Former), r.Replaces) // written before there was Former
}

// Clone is a copy that shares nothing with the record but what is only ever replaced.
func (r *Record) Clone() Record {
	c := *r
	c.Slots = slices.Clone(r.Slots)
	if r.Move != nil {
		m := *r.Move
		c.Move = &m
	}
	return c
}

// Drop takes a slot out of the record.
func (r *Record) Drop(n int) {
	if r.Move != nil {
		r.Move.Gone(n, 0)
	}
	r.Slots = slices.DeleteFunc(r.Slots, func(s Slot) bool { return s.N == n })
}

// UpperID names the upper of a slot: the base it was written over and the slot.
func (s *Slot) UpperID() overlay.UpperID { return overlay.MakeUpperID(s.Base.ID, s.N) }

// NewExportID is a random export id; never zero.
func NewExportID() nfsexport.ID {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
		if id := nfsexport.ID(binary.BigEndian.Uint64(b[:])); id != 0 {
			return id
		}
	}
}

// ExportPath is what the board gives to MNT for a slot.
func ExportPath(serial device.Serial, n int) string { return fmt.Sprintf("/%s/%d", serial, n) }

// Load reads a board's device.json; a board without one has an empty record.
func Load(state string, serial device.Serial) (Record, error) {
	empty := Record{Version: Version, Serial: serial}
	path := PathsOf(state, serial).Record()
	r, err := ReadFile(path)
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

// ReadFile reads one device.json.
func ReadFile(path string) (Record, error) {
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
	r, err := Decode(b)
	if err != nil {
		return Record{}, fmt.Errorf("reading the board's record %q: %w", path, err)
	}
	return r, nil
}

// Save puts the record on disk: whole, and before it returns.
func Save(state string, r *Record) error {
	return SaveIn(PathsOf(state, r.Serial).Dir(), r)
}

// SaveIn is Save to the directory of another board.
func SaveIn(dir string, r *Record) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	b, err := r.Encode()
	if err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	// WithTempDir: else two files are made and renamed to find out where one can be.
	if err := renameio.WriteFile(filepath.Join(dir, File), b, 0o600, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("writing the board's record: %w", err)
	}
	// renameio syncs the file; the name is safe once the directory is.
	return SyncDirs(dir, filepath.Dir(dir))
}
