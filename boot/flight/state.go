package flight

import "time"

// silence is how long nothing may be heard of a board within one boot.
const silence = 2 * time.Minute

// state is what the recorder remembers of a board's latest boot.
type state struct {
	n    int    // its number
	boot string // its id; "": it got no boot files yet
	// before is the boot before: what was learned of it late is of its record.
	before struct {
		n    int
		boot string
	}
	last time.Time // when something was heard
	// ended: the next question to the firmware is another boot. It was since then.
	ended      bool
	endedSince time.Time
	// files: some were asked for; further: others than a boot ROM's.
	files, further bool
	// settled: user space runs, and what DHCP says is the system's affair.
	settled bool
	// events and bytes are on disk; lost were not written.
	events  int
	bytes   int64
	lost    int
	console int // lines of the board's console, which anybody can send
}

// begins says whether an event of a board is the first of another boot than
// the one that was recorded last; nil: none was. A boot of a Pi 3 has two
// DISCOVERs: of its ROM, which loads bootcode.bin, and of that.
func (s *state) begins(e Event) bool {
	first := e.Kind == Discover || e.Kind == File || e.Kind == Unanswered
	switch {
	case !first:
		return false
	case s == nil:
		return true
	case s.ended && e.Kind == File && !e.Time.Add(-e.Took).After(s.endedSince):
		return false // the end of a transfer is heard late
	case s.ended, e.Time.Sub(s.last) > silence:
		return true
	case e.Kind == File:
		return false
	case e.Stage == "bootcode":
		return s.further
	}
	return s.files
}

// note takes one more event into account.
func (s *state) note(e Event) {
	if e.Time.After(s.last) {
		s.last = e.Time
	}
	switch e.Kind {
	case Console:
		s.console++
	case Prepared:
		s.boot = e.Boot
	case Mounted, Stopped:
		s.ended, s.endedSince = true, e.Time
	case Running, Good:
		s.settled = true
	case File:
		s.files = true
		// What only a boot ROM asks for.
		if e.Name != "bootcode.bin" && e.Name != "bootsig.bin" {
			s.further = true
		}
	}
}

// full says that an event is one too many.
func (s *state) full(e Event, l Limits) bool {
	switch {
	case s.events >= l.Events+vitalMore:
		return true
	case e.Kind == Console && s.console > l.Events/2:
		return true
	}
	return !vital(e.Kind) && (s.events >= l.Events || s.bytes >= l.BootBytes)
}

// vital says that an event is kept also when a boot has too many.
func vital(k Kind) bool {
	switch k {
	case Prepared, Blocked, Mounted, Called, Running, Good, Failed, Rebased, Stopped:
		return true
	}
	return false
}
