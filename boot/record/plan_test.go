package record

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/overlay"
)

var (
	baseA = overlay.Base{ID: "aaaaaaaaaaaaaaaa", Digests: []string{"da"}, Roots: []string{"00:01"}}
	baseB = overlay.Base{ID: "bbbbbbbbbbbbbbbb", Digests: []string{"db"}, Roots: []string{"00:02"}}
	t0    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// comparable lets cmp compare values by ==.
func comparable() cmp.Option {
	return cmpopts.EquateComparable(netip.Addr{}, device.Serial{}, device.MAC{}, imageref.Ref{})
}

func slotOf(n int, st SlotState, base overlay.Base, ephemeral, mounted bool) Slot {
	s := Slot{N: n, State: st, Base: base, Boot: "boot/firmware", Ephemeral: ephemeral, Export: nfsexport.ID(n), Image: imageref.Ref{Name: "lab", Version: 1}}
	if mounted {
		s.Mounted = t0
	}
	return s
}

func TestPlanBoot(t *testing.T) {
	type result struct {
		N       int
		States  map[int]SlotState
		Discard []int
	}
	for name, c := range map[string]struct {
		slots   []Slot
		written map[int]bool // slots whose upper is not empty
		want    Want
		result  result
	}{
		"first boot": {
			want:   Want{Base: baseA},
			result: result{N: 1, States: map[int]SlotState{1: SlotNext}},
		},
		"asked again before mounting": {
			slots: []Slot{slotOf(1, SlotNext, baseA, false, false)}, want: Want{Base: baseA},
			result: result{N: 1, States: map[int]SlotState{1: SlotNext}},
		},
		"tag moved before mounting": {
			slots: []Slot{slotOf(1, SlotNext, baseA, false, false)}, want: Want{Base: baseB},
			result: result{N: 2, States: map[int]SlotState{2: SlotNext}, Discard: []int{1}},
		},
		"persistent board boots again": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, written: map[int]bool{1: true}, want: Want{Base: baseA},
			result: result{N: 1, States: map[int]SlotState{1: SlotCurrent}},
		},
		"persistent board with writes stays when the tag moves": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, written: map[int]bool{1: true}, want: Want{Base: baseB},
			result: result{N: 1, States: map[int]SlotState{1: SlotCurrent}},
		},
		"persistent board never written to follows the tag": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, want: Want{Base: baseB},
			result: result{N: 2, States: map[int]SlotState{1: SlotCurrent, 2: SlotNext}},
		},
		"the tag moves back": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true), slotOf(2, SlotNext, baseB, false, false)}, want: Want{Base: baseA},
			result: result{N: 1, States: map[int]SlotState{1: SlotCurrent}, Discard: []int{2}},
		},
		"written to between preparation and mount": {
			slots:   []Slot{slotOf(1, SlotCurrent, baseA, false, true), slotOf(2, SlotNext, baseB, false, false)},
			written: map[int]bool{1: true}, want: Want{Base: baseB},
			result: result{N: 1, States: map[int]SlotState{1: SlotCurrent}, Discard: []int{2}},
		},
		"ephemeral board gets a new upper": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, true, true)}, written: map[int]bool{1: true}, want: Want{Base: baseA, Ephemeral: true},
			result: result{N: 2, States: map[int]SlotState{1: SlotCurrent, 2: SlotNext}},
		},
		"ephemeral board that wrote nothing gets a new upper too": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, true, true)}, want: Want{Base: baseA, Ephemeral: true},
			result: result{N: 2, States: map[int]SlotState{1: SlotCurrent, 2: SlotNext}},
		},
		"forged requests leave one empty upper": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, true, true), slotOf(2, SlotNext, baseA, true, false)}, want: Want{Base: baseA, Ephemeral: true},
			result: result{N: 2, States: map[int]SlotState{1: SlotCurrent, 2: SlotNext}},
		},
		"persistent board made ephemeral keeps its writes": {
			slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, written: map[int]bool{1: true}, want: Want{Base: baseA, Ephemeral: true},
			result: result{N: 2, States: map[int]SlotState{1: SlotCurrent, 2: SlotNext}},
		},
		"made persistent again, it finds them": {
			slots:   []Slot{slotOf(1, SlotParked, baseA, false, true), slotOf(2, SlotCurrent, baseA, true, true)},
			written: map[int]bool{1: true}, want: Want{Base: baseB},
			result: result{N: 1, States: map[int]SlotState{1: SlotNext, 2: SlotCurrent}},
		},
		"a parked root prepared but not mounted is parked again": {
			slots:   []Slot{slotOf(1, SlotNext, baseA, false, true), slotOf(2, SlotCurrent, baseA, true, true)},
			written: map[int]bool{1: true}, want: Want{Base: baseA, Ephemeral: true},
			result: result{N: 3, States: map[int]SlotState{1: SlotParked, 2: SlotCurrent, 3: SlotNext}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := Record{Slots: c.slots}
			if n := len(c.slots); n > 0 {
				rec.LastSlot = c.slots[n-1].N
			}
			before := rec.Clone()
			empty := func(s Slot) (bool, error) { return !c.written[s.N], nil }
			out, n, discard, err := PlanBoot(rec, c.want, empty, func() nfsexport.ID { return 99 }, t0)
			if err != nil {
				t.Fatal(err)
			}
			got := result{N: n, States: map[int]SlotState{}}
			for _, s := range out.Slots {
				got.States[s.N] = s.State
			}
			for _, s := range discard {
				got.Discard = append(got.Discard, s.N)
			}
			if d := cmp.Diff(c.result, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(before, rec, comparable()); d != "" {
				t.Error("the record given in was changed:", d)
			}
			// A second plan from the first one's result changes nothing more.
			again, n2, discard2, err := PlanBoot(out, c.want, empty, func() nfsexport.ID { return 100 }, t0.Add(1))
			if err != nil || n2 != n || len(discard2) != 0 {
				t.Errorf("planning again: root %d, %d discarded, %v", n2, len(discard2), err)
			}
			if d := cmp.Diff(out, again, comparable()); d != "" {
				t.Error("planning twice:", d)
			}
		})
	}
}

func TestPlanBootBounds(t *testing.T) {
	rec := Record{}
	for i := 1; i <= maxOld; i++ {
		rec.Slots = append(rec.Slots, slotOf(i, SlotOld, baseA, true, true))
	}
	rec.LastSlot = maxOld
	_, _, _, err := PlanBoot(rec, Want{Base: baseA, Ephemeral: true}, func(Slot) (bool, error) { return true, nil }, func() nfsexport.ID { return 1 }, t0)
	if err == nil {
		t.Fatal("a board that starts over and over is not bounded")
	}
}

func TestPlanMount(t *testing.T) {
	for name, c := range map[string]struct {
		slots   []Slot
		written map[int]bool
		n       int
		states  map[int]SlotState
		fails   bool
	}{
		"first":                           {slots: []Slot{slotOf(1, SlotNext, baseA, false, false)}, n: 1, states: map[int]SlotState{1: SlotCurrent}},
		"again":                           {slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, written: map[int]bool{1: true}, n: 1, states: map[int]SlotState{1: SlotCurrent}},
		"ephemeral is retired":            {slots: []Slot{slotOf(1, SlotCurrent, baseA, true, true), slotOf(2, SlotNext, baseA, true, false)}, written: map[int]bool{1: true}, n: 2, states: map[int]SlotState{1: SlotOld, 2: SlotCurrent}},
		"persistent with writes is kept":  {slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true), slotOf(2, SlotNext, baseA, true, false)}, written: map[int]bool{1: true}, n: 2, states: map[int]SlotState{1: SlotParked, 2: SlotCurrent}},
		"persistent without is retired":   {slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true), slotOf(2, SlotNext, baseB, false, false)}, n: 2, states: map[int]SlotState{1: SlotOld, 2: SlotCurrent}},
		"a root that went away meanwhile": {slots: []Slot{slotOf(1, SlotCurrent, baseA, false, true)}, n: 2, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := PlanMount(Record{Slots: c.slots}, c.n, func(s Slot) (bool, error) { return !c.written[s.N], nil }, t0)
			if (err != nil) != c.fails {
				t.Fatal(err)
			}
			if c.fails {
				return
			}
			got := map[int]SlotState{}
			for _, s := range out.Slots {
				got[s.N] = s.State
			}
			if d := cmp.Diff(c.states, got); d != "" || !out.Up {
				t.Error(d, out.Up)
			}
		})
	}
}
