package sighting

import (
	"iter"
	"time"

	"rubus/config/device"
)

// Sighting is a board that asks for a boot server.
type Sighting struct {
	// Serial is zero from a Pi 3's boot ROM, which sends none.
	Serial   device.Serial
	MAC      device.MAC
	Revision device.Revision // 0: not sent
	// Stage is what asks, such as "rom" or "eeprom".
	Stage string
	// Bootloader says in words how old the bootloader is; "" when it does not say.
	Bootloader string
	// Hint says that nothing but the maker of its card speaks for a Pi.
	Hint bool
}

// Unknown is a board that no entry of devices.yaml names.
type Unknown struct {
	// Sighting has what the board said of itself, the latest word of each kind:
	// its programs do not all say the same.
	Sighting
	First, Last time.Time
	// Times is how often it asked.
	Times int
}

// List is a bounded list of unknown boards. When it is full, one that asked
// once goes before one that asked again, as boards do, and of these the one not
// seen for longest. It is for one goroutine at a time.
type List struct {
	max  int
	seen map[device.MAC]*Unknown
}

// New makes a list of limit boards at most.
func New(limit int) *List {
	return &List{max: limit, seen: map[device.MAC]*Unknown{}}
}

// Note says whether the board is new to the list.
func (l *List) Note(s Sighting, now time.Time) bool {
	if u := l.seen[s.MAC]; u != nil {
		u.Last, u.Stage = now, s.Stage
		u.Times++
		u.Learn(s)
		return false
	}
	if len(l.seen) >= l.max {
		var worst *Unknown
		for _, u := range l.seen {
			if worst == nil || u.less(worst) {
				worst = u
			}
		}
		delete(l.seen, worst.MAC)
	}
	l.seen[s.MAC] = &Unknown{Sighting: s, First: now, Last: now, Times: 1}
	return true
}

// Has says whether a board with the MAC asked.
func (l *List) Has(mac device.MAC) bool { return l.seen[mac] != nil }

// All are the boards of the list, in no order.
func (l *List) All() iter.Seq[Unknown] {
	return func(yield func(Unknown) bool) {
		for _, u := range l.seen {
			if !yield(*u) {
				return
			}
		}
	}
}

// less says that u is to go before v.
func (u *Unknown) less(v *Unknown) bool {
	if once := u.Times == 1; once != (v.Times == 1) {
		return once
	}
	return u.Last.Before(v.Last)
}

// Learn takes over what another request of the same board says of it.
func (s *Sighting) Learn(t Sighting) {
	if !t.Serial.IsZero() {
		s.Serial = t.Serial
	}
	if t.Revision != 0 {
		s.Revision = t.Revision
	}
	if t.Bootloader != "" {
		s.Bootloader = t.Bootloader
	}
}
