package record

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// moving is a record of a board with a former slot 1 and the slot 2 of a move.
func moving(st MoveState, up bool, former, own SlotState) Record {
	m := &Move{State: st, To: slotOf(2, own, baseB, false, true).Image, Slot: 2, Former: 1, Reports: true}
	r := Record{Version: Version, Up: up, LastSlot: 2, Move: m}
	r.Slots = []Slot{slotOf(1, former, baseA, false, true), slotOf(2, own, baseB, false, own == SlotCurrent)}
	return r
}

// Which slot a boot gets, and which hold what the board wrote, follows from its move alone:
// also when what was carried over is nothing, so that its upper is empty.
func TestSlotsOfAMove(t *testing.T) {
	for name, c := range map[string]struct {
		rec       Record
		boots     int
		has       []int // the slots that hold the board's writes, the one that counts first
		setAside  []int // those that become snapshots when the board has mounted what it boots
		afterNote string
	}{
		"offered":                 {moving(MoveTrial, true, SlotCurrent, SlotNext), 2, []int{1, 2}, nil, ""},
		"offered, and down":       {moving(MoveTrial, false, SlotParked, SlotParked), 2, []int{2}, nil, ""},
		"on trial":                {moving(MoveTrial, true, SlotParked, SlotCurrent), 2, []int{2}, nil, ""},
		"on trial, cut off":       {moving(MoveTrial, false, SlotParked, SlotCurrent), 2, []int{2}, nil, ""},
		"good":                    {moving(MoveGood, true, SlotParked, SlotCurrent), 2, []int{2}, nil, ""},
		"to go back":              {moving(MoveBack, true, SlotParked, SlotCurrent), 1, []int{2, 1}, []int{2}, "which was not good"},
		"to go back, never there": {moving(MoveBack, true, SlotCurrent, SlotNext), 1, []int{1}, []int{2}, "which was not good"},
		"to be undone":            {moving(MoveUndoing, true, SlotParked, SlotCurrent), 2, []int{2}, nil, ""},
		"undone":                  {moving(MoveUndone, true, SlotParked, SlotCurrent), 1, []int{2, 1}, []int{2}, "was undone"},
	} {
		t.Run(name, func(t *testing.T) {
			empty := func(s Slot) (bool, error) { return s.N == 2, nil }
			out, n, _, err := PlanBoot(c.rec, Want{Image: c.rec.Move.To, Base: baseA}, empty, nil, t0)
			if err != nil || n != c.boots {
				t.Fatalf("it boots slot %d, %v; want %d", n, err, c.boots)
			}
			var has []int
			for _, s := range c.rec.Persistent() {
				has = append(has, s.N)
			}
			if !slices.Equal(has, c.has) {
				t.Errorf("its writes are in %v, want %v", has, c.has)
			}
			if out, err = PlanMount(out, n, empty, t0); err != nil {
				t.Fatal(err)
			}
			var aside []int
			for _, s := range out.Slots {
				if s.Aside == "" {
					continue
				}
				if aside = append(aside, s.N); !strings.Contains(s.Aside, c.afterNote) {
					t.Errorf("slot %d is set aside as %q", s.N, s.Aside)
				}
			}
			if out.Slot(2) == nil {
				aside = append(aside, 2) // dropped: nobody ever mounted it
			}
			if !slices.Equal(aside, c.setAside) {
				t.Errorf("set aside is %v, want %v", aside, c.setAside)
			}
			if err := out.checkMove(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a board on trial may come back to is kept also when it holds nothing any more.
func TestFormerIsKept(t *testing.T) {
	r := moving(MoveTrial, true, SlotCurrent, SlotNext)
	out, err := PlanMount(r, 2, func(Slot) (bool, error) { return true, nil }, t0)
	if err != nil || out.Slot(1) == nil || out.Slot(1).State != SlotParked {
		t.Fatalf("%+v, %v", out.Slots, err)
	}
	out.TakeBack(MoveBack, "", t0)
	if _, n, _, err := PlanBoot(out, Want{Base: baseA}, func(Slot) (bool, error) { return true, nil }, nil, t0); err != nil || n != 1 {
		t.Errorf("it goes back to slot %d, %v", n, err)
	}
}

// A boot on trial that takes too long is told of once; another one begins anew.
func TestHangs(t *testing.T) {
	const within = 30 * time.Minute
	late := t0.Add(within + time.Second)
	for name, c := range map[string]struct {
		state  MoveState
		slot   int
		within time.Duration
		now    time.Time
		want   bool
	}{
		"in time":               {MoveTrial, 2, within, t0.Add(within), false},
		"late":                  {MoveTrial, 2, within, late, true},
		"late, any time":        {MoveTrial, 2, 0, late, false},
		"of what it had before": {MoveTrial, 1, within, late, false},
		"it is good":            {MoveGood, 2, within, late, false},
		"it is to be undone":    {MoveUndoing, 2, within, late, false},
	} {
		r := moving(c.state, true, SlotParked, SlotCurrent)
		got := r.Hangs(c.slot, t0, c.within, c.now)
		if got != c.want || got != !r.Move.Overdue.IsZero() || got != strings.Contains(r.Move.Why, "not reported as good after 30m") {
			t.Errorf("%s: %v, %+v", name, got, r.Move)
		}
		if got && r.Hangs(c.slot, t0, c.within, c.now) {
			t.Errorf("%s: it is news twice", name)
		}
	}
	r := moving(MoveTrial, true, SlotParked, SlotCurrent)
	r.Hangs(2, t0, within, late)
	if r.Judge(2, false, true, 3, late); !r.Move.Overdue.IsZero() || r.Move.Why != "" || r.Move.State != MoveTrial || r.Move.Failures != 1 {
		t.Errorf("when it boots again: %+v", r.Move)
	}
	r.Hangs(2, late, within, late.Add(time.Hour))
	if r.Judge(2, true, false, 3, late); !r.Move.Overdue.IsZero() || r.Move.Why != "" || r.Move.State != MoveGood {
		t.Errorf("when it is good after all: %+v", r.Move)
	}
}
