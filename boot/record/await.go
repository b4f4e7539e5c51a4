package record

import (
	"net/netip"
	"slices"
)

// A server that tells nobody of a MOUNT lets a board mount its root by its address: so that is
// written down before, and the slot is the board's when it is seen to be called on.

// MaxAwaited bounds the addresses that one board may come from.
const MaxAwaited = 4

// IsAwaited says that a board may mount the slot, or may have, without a word.
func (s *Slot) IsAwaited() bool { return len(s.Awaits) > 0 }

// MayBeUp says that a board may stand on something of ours.
func (r *Record) MayBeUp() bool {
	return r.Up || slices.ContainsFunc(r.Slots, func(s Slot) bool { return s.IsAwaited() })
}

// Offered lists the slots that a board may call on.
func (r *Record) Offered() []Slot {
	if r.Up {
		return slices.Clone(r.Slots)
	}
	return slices.DeleteFunc(slices.Clone(r.Slots), func(s Slot) bool { return !s.IsAwaited() })
}

// Await has a board come to slot n from an address, and to no other slot. insecurePorts is
// how a slot is offered that no board has yet.
func (r *Record) Await(n int, addr netip.Addr, insecurePorts bool) {
	r.AwaitNothing()
	s := r.Slot(n)
	if s.Awaits = []netip.Addr{addr}; s.IsOffer() {
		s.InsecurePorts = insecurePorts
	}
}

// AwaitNothing lets a board come to no slot without a word.
func (r *Record) AwaitNothing() {
	for i := range r.Slots {
		r.Slots[i].Awaits = nil
	}
}

// Awaited is the slot that a board may mount without a word; nil: none.
func (r *Record) Awaited() *Slot {
	for i := range r.Slots {
		if r.Slots[i].IsAwaited() {
			return &r.Slots[i]
		}
	}
	return nil
}

// AwaitAlso gives where to await a board that has some addresses now: there, too, and no
// longer where another is. It changes nothing.
func (s *Slot) AwaitAlso(now []netip.Addr, isAnothers func(netip.Addr) bool) []netip.Addr {
	next := slices.DeleteFunc(slices.Clone(s.Awaits), isAnothers)
	for _, a := range now {
		if !slices.Contains(next, a) && len(next) < MaxAwaited {
			next = append(next, a)
		}
	}
	return next
}

// AwaitElsewhere has a board that is up, and whose own address is nobody's any more, come to
// its root from the addresses that it has now. It gives them; nil: nothing changes.
func (r *Record) AwaitElsewhere(now []netip.Addr) []netip.Addr {
	s := r.InState(SlotCurrent)
	if !r.Up || s == nil || s.IsAwaited() {
		return nil
	}
	now = slices.DeleteFunc(slices.Clone(now), func(a netip.Addr) bool { return a == r.Address })
	if len(now) == 0 {
		return nil
	}
	s.Awaits = now[:min(len(now), MaxAwaited)]
	return s.Awaits
}

// Rebind makes an address that a board was awaited at its own: it calls from there, and did
// not boot anew. It says whether that changed anything.
func (r *Record) Rebind(n int, addr netip.Addr) bool {
	s := r.Slot(n)
	if s == nil || !r.Up || !slices.Contains(s.Awaits, addr) {
		return false
	}
	r.Address, s.Awaits = addr, nil
	return true
}

// Has says whether an address is the board's, or one that it is awaited at.
func (r *Record) Has(addr netip.Addr) bool {
	return r.Address == addr || slices.ContainsFunc(r.Slots, func(s Slot) bool { return slices.Contains(s.Awaits, addr) })
}

// Lose makes an address not the board's.
func (r *Record) Lose(addr netip.Addr) {
	if r.Address == addr {
		r.Address = netip.Addr{}
	}
	for i := range r.Slots {
		s := &r.Slots[i]
		s.Awaits = slices.DeleteFunc(slices.Clone(s.Awaits), func(a netip.Addr) bool { return a == addr })
	}
}
