package batch

import (
	"slices"

	"rubus/config/device"
	"rubus/images/imageref"
)

// Rest lists the boards that the batch was to move and did not: their turn never came, they
// were called back when it stopped, or they could not be moved. One that was undone has none.
func (b *Batch) Rest() (out []device.Serial) {
	for _, m := range b.Members {
		kept := (m.State == Dropped || m.State == undone) && m.Why == WhyStopped
		if b.State != Undone && (kept || m.State == failed) {
			out = append(out, m.Serial)
		}
	}
	return out
}

// Unfinished is a batch of which nothing more comes by itself, though not all that was
// ordered is done.
type Unfinished struct {
	N     int          `json:"n"`
	To    imageref.Ref `json:"to"`
	State State        `json:"state"`
	Why   string       `json:"why,omitempty"`
	// Rest are boards that did not move, Left those of an undone batch that are not taken back.
	Rest []device.Serial `json:"rest,omitempty"`
	Left []device.Serial `json:"left,omitempty"`
}

// UnfinishedOf lists the unfinished among all batches, the oldest first. A board that a later
// batch has is that one's, and one that is on the version, by whatever way, has moved.
func UnfinishedOf(all []Batch, isOn func(device.Serial, imageref.Ref) bool) (out []Unfinished) {
	later := map[device.Serial]bool{}
	for _, b := range slices.Backward(all) {
		u := Unfinished{N: b.N, To: b.To, State: b.State, Why: b.Why}
		if b.State == Stopped || b.State == Done {
			u.Rest = slices.DeleteFunc(b.Rest(), func(s device.Serial) bool { return later[s] || isOn(s, b.To) })
		}
		if b.State == Undone {
			for _, m := range b.Members {
				on := m.State == trial || (m.State == good || m.State == moved) && isOn(m.Serial, b.To)
				if on && !later[m.Serial] {
					u.Left = append(u.Left, m.Serial)
				}
			}
		}
		if len(u.Rest)+len(u.Left) > 0 {
			out = append(out, u)
		}
		for _, m := range b.Members {
			later[m.Serial] = true
		}
	}
	slices.Reverse(out)
	return out
}
