package boot

import (
	"slices"
	"time"

	"rubus/boot/phase"
	"rubus/boot/sighting"
	"rubus/config/device"
)

// Verdict is whether a sighting is answered, and why not.
type Verdict struct {
	Answer bool
	// Serial is the board's, also when the sighting had none.
	Serial device.Serial
	// Why says in a few words why there is no answer; "" when there is one.
	Why string
	// Quiet is how long the board's root was without a call before this DISCOVER,
	// which begins a new boot; 0: it had none, or asks again.
	Quiet time.Duration
}

// Sight decides on a board's DISCOVER. It does not block: it runs for every
// packet. The MAC heard here, with this identity, is the board's claim; it
// becomes its binding when the board mounts.
func (f *Fleet) Sight(s sighting.Sighting) Verdict {
	now := f.opt.Now()
	switch {
	case s.Hint:
		// A PXE client can have a board's MAC; it is told only where to go when
		// an entry names this very card.
		if s.Serial = f.named(s.MAC); s.Serial.IsZero() {
			v := f.stranger(s, now)
			v.Why = "it sends no identity of a Pi, and no entry of devices.yaml has its MAC"
			return v
		}
	case s.Serial.IsZero():
		s.Serial = f.serialOf(s.MAC)
	}
	if s.Serial.IsZero() {
		return f.stranger(s, now)
	}
	dev := f.wanted(s.Serial)
	if dev == nil {
		v := f.stranger(s, now)
		if by := f.replacedBy(s.Serial); !by.IsZero() {
			v.Why = "board " + by.String() + " has taken its place"
		}
		return v
	}
	v := Verdict{Serial: s.Serial}
	if !dev.Enabled {
		v.Why = "the device is disabled in devices.yaml"
		return v
	}
	if !dev.MAC.IsZero() && dev.MAC != s.MAC {
		v.Why = "devices.yaml gives this serial to MAC " + dev.MAC.String()
		f.refused(s, v.Why)
		return v
	}
	if f.isFull(s.Serial) {
		v.Why = "too many unknown boards"
		return v
	}
	if other := f.claimant(s.MAC, s.Serial); !other.IsZero() {
		v.Why = "this MAC is that of board " + other.String()
		f.refused(s, v.Why)
		if b := f.known(other); b != nil {
			f.probe(b) // it may be down, and only not known to be
		}
		return v
	}
	b := f.board(s.Serial)
	e := b.evidence()
	who := f.binding(b)
	if f.doubted(b, who.MayAsk(s.MAC)) != nil {
		v.Why = "the board is up as MAC " + who.Bound.String() + "; another MAC claims its serial"
		f.refused(s, v.Why)
		return v
	}
	b.mu.Lock()
	b.claim = s.MAC
	if s.Revision != 0 {
		b.revision = s.Revision
	}
	if b.ev.Attempt.IsZero() || !b.ev.TFTP.Before(b.ev.Attempt) || now.Sub(b.ev.DHCP) > f.opt.Limits.Boot {
		b.ev.Attempt, b.pinned = now, 0
		if !e.LastCall.IsZero() {
			v.Quiet = now.Sub(e.LastCall)
		}
	}
	b.ev.DHCP = now
	b.learn(s)
	b.mu.Unlock()
	v.Answer = true
	f.observe(s.Serial, s.MAC, "dhcp", s.Stage)
	return v
}

// stranger notes a board that no entry names, unless "rubus doctor" made it up.
func (f *Fleet) stranger(s sighting.Sighting, now time.Time) Verdict {
	if s.MAC == device.DoctorMAC() {
		return Verdict{Serial: s.Serial, Why: "rubus doctor asks"}
	}
	f.mu.Lock()
	policy := UnknownIgnore
	if f.desired != nil {
		policy = f.desired.Unknown
	}
	isNew := false
	if policy != UnknownIgnore {
		isNew = f.unknown.Note(s, now)
	}
	f.mu.Unlock()
	if isNew {
		what := []any{"mac", s.MAC}
		if !s.Serial.IsZero() { // the ROM of a Pi 3 says none, and no revision
			what = append(what, "serial", s.Serial, "revision", s.Revision)
		}
		f.log.Info("a board that devices.yaml does not name asks to boot", what...)
		f.observe(s.Serial, s.MAC, "unknown", s.Stage)
	}
	return Verdict{Serial: s.Serial, Why: "not in devices.yaml"}
}

func (f *Fleet) refused(s sighting.Sighting, why string) {
	b := f.known(s.Serial)
	if b == nil && f.isListed(s.Serial) {
		b = f.board(s.Serial) // whose admin wants to know why it does not boot
	}
	if b == nil {
		f.observe(s.Serial, s.MAC, "refused", why)
		return
	}
	if !b.refuse(f.opt.Now(), why, why) {
		f.log.Warn("a boot is refused", "serial", s.Serial, "mac", s.MAC, "why", why)
	}
	f.observe(s.Serial, s.MAC, "refused", why)
}

// serialOf names the board of a MAC: by devices.yaml, else by what boards are
// bound to; zero when there is none.
func (f *Fleet) serialOf(mac device.MAC) device.Serial {
	f.mu.Lock()
	if f.desired != nil {
		if s, ok := f.desired.ByMAC[mac]; ok {
			f.mu.Unlock()
			return s
		}
	}
	f.mu.Unlock()
	return f.claimant(mac, device.Serial{})
}

// named is the device whose entry has "mac:" with this one; zero: none.
func (f *Fleet) named(mac device.MAC) device.Serial {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.desired == nil {
		return device.Serial{}
	}
	s := f.desired.ByMAC[mac]
	if d := f.desired.device(s); d == nil || d.MAC != mac {
		return device.Serial{}
	}
	return s
}

// claimant is a board other than not that has a MAC or claims it; zero: none.
// A board whose entry names its MAC holds it; one that is down and only bound
// to it does not stand in the way of the entry's.
func (f *Fleet) claimant(mac device.MAC, not device.Serial) device.Serial {
	f.mu.Lock()
	var entry device.Serial
	if f.desired != nil {
		entry = f.desired.ByMAC[mac]
	}
	f.mu.Unlock()
	if !entry.IsZero() && entry != not {
		return entry
	}
	for _, b := range f.all() {
		if b.serial == not {
			continue
		}
		b.mu.Lock()
		bound, has, up := b.rec.MAC == mac, b.rec.MAC == mac || b.claim == mac, b.rec.Up
		b.mu.Unlock()
		if !entry.IsZero() && has {
			// Perhaps the serial in devices.yaml was wrong before.
			e := b.evidence()
			has = bound && up && e.Up(f.opt.Now(), f.opt.Limits) != phase.UpNo
		}
		if has {
			return b.serial
		}
	}
	return device.Serial{}
}

// isListed says whether devices.yaml has an entry for a board.
func (f *Fleet) isListed(s device.Serial) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.desired.device(s) != nil
}

// isFull says that one more unknown board would be one too many.
func (f *Fleet) isFull(s device.Serial) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.desired.device(s) != nil || f.boards[s] != nil {
		return false
	}
	n := 0
	for t := range f.boards {
		if f.desired.device(t) == nil {
			n++
		}
	}
	return n >= f.opt.MaxUnknown
}

// Unknown lists the boards seen that devices.yaml does not name, by MAC.
func (f *Fleet) Unknown() []sighting.Unknown {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []sighting.Unknown
	for u := range f.unknown.All() {
		if f.desired.device(u.Serial) == nil {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b sighting.Unknown) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	return out
}
