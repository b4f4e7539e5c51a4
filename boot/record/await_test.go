package record

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// at is a list of addresses by their last numbers.
func at(last ...byte) (out []netip.Addr) {
	for _, n := range last {
		out = append(out, netip.AddrFrom4([4]byte{10, 77, 0, n}))
	}
	return out
}

// awaited is a record of a board with the address 1, whose root is slot 1, and slot 2 an
// offer: each awaited at some addresses.
func awaited(up bool, current, offer []netip.Addr) Record {
	r := Record{Version: Version, Up: up, LastSlot: 2, Address: at(1)[0]}
	r.Slots = []Slot{slotOf(1, SlotCurrent, baseA, false, true), slotOf(2, SlotNext, baseA, false, false)}
	r.Slots[0].Awaits, r.Slots[1].Awaits = current, offer
	return r
}

// TestAwait: what becomes of where a board is awaited.
func TestAwait(t *testing.T) {
	for _, c := range []struct {
		name   string
		rec    Record
		change func(r *Record) any
		gives  any
		// current and offer are where the two slots are awaited then, own the board's address.
		current, offer []netip.Addr
		own            byte
	}{
		{"at its root", awaited(true, nil, nil), func(r *Record) any { r.Await(1, at(5)[0], true); return r.Slots[0].InsecurePorts }, false, at(5), nil, 1},
		{"at an offer", awaited(true, nil, nil), func(r *Record) any { r.Await(2, at(5)[0], true); return r.Slots[1].InsecurePorts }, true, nil, at(5), 1},
		{"at one slot, and no other", awaited(true, at(1, 6), at(7)), func(r *Record) any { r.Await(2, at(5)[0], false); return r.Awaited().N }, 2, nil, at(5), 1},
		{"nowhere", awaited(true, at(1, 6), at(7)), func(r *Record) any { r.AwaitNothing(); return r.Awaited() == nil }, true, nil, nil, 1},

		{"elsewhere", awaited(true, nil, nil), func(r *Record) any { return r.AwaitElsewhere(at(1, 5, 6)) }, at(5, 6), at(5, 6), nil, 1},
		{"elsewhere, in too many places", awaited(true, nil, nil), func(r *Record) any { return len(r.AwaitElsewhere(at(2, 3, 4, 5, 6, 7))) }, 4, at(2, 3, 4, 5), nil, 1},
		{"elsewhere, and it has only its own", awaited(true, []netip.Addr{}, nil), func(r *Record) any { return r.AwaitElsewhere(at(1)) == nil }, true, nil, nil, 1},
		{"elsewhere, and it is down", awaited(false, nil, nil), func(r *Record) any { return r.AwaitElsewhere(at(5)) == nil }, true, nil, nil, 1},
		{"elsewhere, and it is awaited already", awaited(true, at(5), nil), func(r *Record) any { return r.AwaitElsewhere(at(6)) == nil }, true, at(5), nil, 1},

		{"it calls from there", awaited(true, at(5, 6), nil), func(r *Record) any { return r.Rebind(1, at(6)[0]) }, true, nil, nil, 6},
		{"it calls from somewhere else", awaited(true, at(5), nil), func(r *Record) any { return r.Rebind(1, at(6)[0]) }, false, at(5), nil, 1},
		{"it calls on another slot", awaited(true, at(5), nil), func(r *Record) any { return r.Rebind(2, at(5)[0]) }, false, at(5), nil, 1},
		{"it calls on a slot that is gone", awaited(true, at(5), nil), func(r *Record) any { return r.Rebind(3, at(5)[0]) }, false, at(5), nil, 1},
		{"it calls, and is down", awaited(false, at(5), nil), func(r *Record) any { return r.Rebind(1, at(5)[0]) }, false, at(5), nil, 1},

		{"an address that is another's", awaited(true, at(5, 6), at(5)), func(r *Record) any { r.Lose(at(5)[0]); return r.Has(at(5)[0]) }, false, at(6), nil, 1},
		{"its own is another's", awaited(true, at(5), nil), func(r *Record) any { r.Lose(at(1)[0]); return r.Has(at(5)[0]) }, true, at(5), nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			was, r := fmt.Sprint(c.rec), c.rec.Clone()
			if got := c.change(&r); !reflect.DeepEqual(got, c.gives) {
				t.Errorf("it gives %v, want %v", got, c.gives)
			}
			own := netip.Addr{}
			if c.own != 0 {
				own = at(c.own)[0]
			}
			if !slices.Equal(r.Slots[0].Awaits, c.current) || !slices.Equal(r.Slots[1].Awaits, c.offer) || r.Address != own {
				t.Errorf("its root is awaited at %v, the offer at %v, and it has %v", r.Slots[0].Awaits, r.Slots[1].Awaits, r.Address)
			}
			if now := fmt.Sprint(c.rec); now != was {
				t.Errorf("the record that it was made of is changed: %s", now)
			}
		})
	}
}

// TestAwaitAlso: a board comes from the addresses that it has now, too.
func TestAwaitAlso(t *testing.T) {
	for _, c := range []struct {
		name               string
		was, now, anothers []netip.Addr
		want               []netip.Addr
	}{
		{"another one", at(1), at(2), nil, at(1, 2)},
		{"the same", at(1), at(1), nil, at(1)},
		{"none is known", at(1), nil, nil, at(1)},
		{"the first is another's now", at(1, 2), at(2), at(1), at(2)},
		{"all are another's", at(1), nil, at(1), nil},
		{"more than are awaited", at(1), at(2, 3, 4, 5, 6), nil, at(1, 2, 3, 4)},
		{"as many as are awaited", at(1, 2, 3, 4), at(5), at(2), at(1, 3, 4, 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Slot{Awaits: slices.Clone(c.was)}
			got := s.AwaitAlso(c.now, func(a netip.Addr) bool { return slices.Contains(c.anothers, a) })
			if !slices.Equal(got, c.want) || !slices.Equal(s.Awaits, c.was) {
				t.Errorf("%v, and the slot has %v", got, s.Awaits)
			}
		})
	}
}
