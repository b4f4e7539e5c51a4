package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"rubus/nfsexport"
	"rubus/overlay"
)

// Version is the format of device.json that this program writes. It reads
// the earlier ones too, so that boards run through an upgrade:
//
//	1  async and insecure_ports were the record's, for all its slots
//	2  each slot has its own
//	3  a board may be about to move to another version, and slots to become snapshots
const Version = 3

// Decode reads what Save of this or an earlier version wrote. A
// record that contradicts itself is an error: what follows from one would be
// done to a board's only root.
func Decode(b []byte) (Record, error) {
	// What is gone since stands beside the fields of today.
	var in struct {
		Record
		Async         bool `json:"async"`
		InsecurePorts bool `json:"insecure_ports"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return Record{}, err
	}
	switch in.Version {
	case 1:
		for i := range in.Slots {
			in.Slots[i].Async, in.Slots[i].InsecurePorts = in.Async, in.InsecurePorts
		}
		in.Version = Version
	case 2: // what is new may be missing
		in.Version = Version
	case Version:
	default:
		return Record{}, fmt.Errorf("it is of format %d; this rubus knows 1 to %d: run the rubus that wrote it, or a newer one", in.Version, Version)
	}
	return in.Record, in.Record.Check()
}

// Check says what is contradictory in a record.
func (r *Record) Check() error {
	if r.Serial.IsZero() {
		return errors.New("it names no serial")
	}
	current := 0
	exports := map[nfsexport.ID]int{}
	numbers := map[int]bool{}
	for i := range r.Slots {
		s := &r.Slots[i]
		if s.N > r.LastSlot || numbers[s.N] {
			return fmt.Errorf("slot %d is there twice, or above the last one, %d", s.N, r.LastSlot)
		}
		numbers[s.N] = true
		if !slices.Contains([]SlotState{SlotNext, SlotCurrent, SlotOld, SlotParked}, s.State) {
			return fmt.Errorf("slot %d has the unknown state %q", s.N, s.State)
		}
		if s.State == SlotCurrent {
			current++
		}
		if _, err := overlay.ParseUpperID(string(s.UpperID())); err != nil {
			return fmt.Errorf("slot %d: %w", s.N, err)
		}
		if len(s.Base.Digests) == 0 || len(s.Base.Digests) != len(s.Base.Roots) {
			return fmt.Errorf("slot %d has %d layers with %d roots", s.N, len(s.Base.Digests), len(s.Base.Roots))
		}
		if s.Image.Version == 0 {
			return fmt.Errorf("slot %d has no version of an image", s.N)
		}
		if other, ok := exports[s.Export]; ok || s.Export == 0 {
			return fmt.Errorf("slot %d has no export of its own (%s, slot %d)", s.N, s.Export, other)
		}
		exports[s.Export] = s.N
	}
	if current > 1 {
		return fmt.Errorf("%d slots are current", current)
	}
	return r.checkMove()
}

// Encode is what Decode reads.
func (r *Record) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}
