package record

import (
	"fmt"
	"time"

	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/overlay"
)

// maxOld bounds the retired roots of one board that wait for quiet.
const maxOld = 8

// Want is what a boot that starts now should stand on.
type Want struct {
	Image     imageref.Ref // with its version
	Base      overlay.Base
	Boot      string
	Ephemeral bool
}

// PlanBoot says which slot a boot that starts now gets, and what the record
// becomes. It is pure but for empty, which says whether a slot's upper holds
// nothing. discard lists slots that no boot ever mounted and that are dropped.
//
// A persistent board whose upper holds anything stays on the base it was
// written over. One never written to, and an ephemeral board, follow w. A board that
// moves to another version gets the slot that its move says.
func PlanBoot(rec Record, w Want, empty func(Slot) (bool, error), id func() nfsexport.ID, now time.Time) (out Record, n int, discard []Slot, err error) {
	out = rec.Clone()
	if s := out.Dictated(); s != nil && !w.Ephemeral {
		n = s.N
	} else if n, err = reusable(&out, w, empty); err != nil {
		return rec, 0, nil, err
	}
	// A slot that an earlier boot prepared and no board mounted gives way.
	for _, s := range rec.Slots {
		if s.State != SlotNext || s.N == n {
			continue
		}
		if !s.Mounted.IsZero() && !s.Ephemeral {
			out.Slot(s.N).State = SlotParked
			continue
		}
		discard = append(discard, s)
		out.Drop(s.N)
	}
	if n != 0 {
		if s := out.Slot(n); s.State == SlotParked {
			s.State = SlotNext
		}
		return out, n, discard, nil
	}
	old := 0
	for _, s := range out.Slots {
		if s.State == SlotOld {
			old++
		}
	}
	if old >= maxOld {
		return rec, 0, nil, fmt.Errorf("%d earlier roots of this board still wait to be quiet: it starts over and over; look at its console", old)
	}
	out.LastSlot++
	n = out.LastSlot
	out.Slots = append(out.Slots, Slot{
		N: n, State: SlotNext, Image: w.Image, Base: w.Base, Boot: w.Boot,
		Ephemeral: w.Ephemeral, Export: id(), Made: now,
	})
	return out, n, discard, nil
}

// reusable is the slot that the boot takes up again; 0: a new one is needed.
func reusable(rec *Record, w Want, empty func(Slot) (bool, error)) (int, error) {
	sameBase := func(s Slot) bool { return s.Base.ID == w.Base.ID && s.Base.Matches(w.Base) == nil }
	if w.Ephemeral {
		// Only one that nobody mounted: every boot starts from nothing.
		for _, s := range rec.Slots {
			if !s.Ephemeral || s.State != SlotNext || !s.Mounted.IsZero() || !sameBase(s) {
				continue
			}
			if isEmpty, err := empty(s); err != nil || isEmpty {
				return s.N, err
			}
		}
		return 0, nil
	}
	same := 0
	for _, s := range rec.Persistent() {
		isEmpty, err := empty(s)
		if err != nil {
			return 0, err
		}
		if !isEmpty {
			return s.N, nil
		}
		if same == 0 && sameBase(s) {
			same = s.N
		}
	}
	return same, nil
}

// PlanMount says what the record becomes when the board mounts slot n as its
// root: n is current, and what was current is retired.
func PlanMount(rec Record, n int, empty func(Slot) (bool, error), now time.Time) (Record, error) {
	out := rec.Clone()
	for i := range out.Slots {
		s := &out.Slots[i]
		if s.N == n || s.State != SlotCurrent {
			continue
		}
		s.State, s.Retired = SlotOld, now
		if s.Ephemeral {
			continue
		}
		isEmpty, err := empty(*s)
		if err != nil {
			return rec, err
		}
		if !isEmpty || out.mayReturn(s.N) {
			s.State = SlotParked
		}
	}
	s := out.Slot(n)
	if s == nil {
		return rec, fmt.Errorf("root %d is gone", n)
	}
	s.State, s.Mounted, s.Retired = SlotCurrent, now, time.Time{}
	out.Up = true
	out.mounted(n, now)
	return out, nil
}
