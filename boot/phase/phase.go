package phase

import "time"

// Phase is how far a board's boot is, as far as the server can tell.
type Phase string

// The phases of a board.
const (
	// Unseen: nothing was heard of the board since the daemon started.
	Unseen Phase = "unseen"
	// DHCP: it asked for a boot server and was answered.
	DHCP Phase = "dhcp"
	// TFTP: it fetches files.
	TFTP Phase = "tftp"
	// Mounted: it mounted its root.
	Mounted Phase = "mounted"
	// Running: it read its init: user space.
	Running Phase = "running"
	// Good: a unit in its image said that all of it came up.
	Good Phase = "good"
	// Down: proved by silence, see Evidence.Up.
	Down Phase = "down"
	// Stopped: cut off by an admin, or its entry was removed and it is down.
	Stopped Phase = "stopped"
)

// Up says whether a board runs.
type Up string

// A board is up, is down, or nobody can tell. Unknown counts as up wherever
// something would be destroyed.
const (
	UpYes     Up = "yes"
	UpNo      Up = "no"
	UpUnknown Up = "unknown"
)

// Evidence is all that a board's state is derived from: times of what was
// seen, zero for what was not. It is a value, and what follows from it is pure.
type Evidence struct {
	// DHCP and TFTP are the last answered DISCOVER and file request of the
	// bound board; Attempt is the first of either in the present boot.
	DHCP, TFTP, Attempt time.Time
	// Mounted is the last MOUNT of the current slot.
	Mounted time.Time
	// LastCall is the last NFS call on any of its exports.
	LastCall time.Time
	// InitRead is the last time its init program was read from the start.
	InitRead time.Time
	// Good is when the present boot was reported as good.
	Good time.Time
	// Silent is when the last series of ARP requests or pings began that was
	// left without an answer; zero when the last one was answered. Answered is
	// the last answer.
	Silent, Answered time.Time
	// Stopped is when the board was cut off.
	Stopped time.Time
	// HasRoot says that the board mounted a root and was not cut off since,
	// whether or not that root could be mounted again after a restart.
	HasRoot bool
	// Other says that DHCP and TFTP are of another machine, which was let in when
	// the bound one was down: they are no signs of life of that one.
	Other bool
	// Adopted says that the mount is older than this daemon, which therefore
	// did not see whether init was read.
	Adopted bool
}

// Limits are the spans of time by which Evidence is judged.
type Limits struct {
	// Call: a board that called within it is up.
	Call time.Duration
	// Boot: after this long without a packet a boot attempt is over.
	Boot time.Duration
	// Quiet: an export without a call for this long is quiet. An idle Linux
	// client sends nothing and closes its connection after 5 minutes.
	Quiet time.Duration
}

// DefaultLimits are the spans used unless configured.
func DefaultLimits() Limits {
	return Limits{Call: 30 * time.Second, Boot: 2 * time.Minute, Quiet: 5*time.Minute + 30*time.Second}
}

// lastHeard is the newest sign of life.
func (e *Evidence) lastHeard() time.Time {
	t := Later(Later(e.LastCall, e.Answered), e.Mounted)
	if e.Other {
		return t
	}
	return Later(t, Later(e.DHCP, e.TFTP))
}

// Silence is how old the proof is that the board was silent. A proof does not
// last: a cable may be back in its socket, with an idle board at its end.
func (e *Evidence) Silence(now time.Time) time.Duration {
	if e.Silent.IsZero() {
		return 1<<63 - 1
	}
	return now.Sub(e.Silent)
}

// Up says whether the board runs. Down is proved, not guessed: an idle client
// sends nothing, so it takes silence on NFS for Limits.Call and an unanswered
// series of probes that began after the last sign of life.
func (e *Evidence) Up(now time.Time, l Limits) Up {
	if !e.HasRoot {
		// Nothing of ours is under it: it can lose nothing.
		return UpNo
	}
	if !e.LastCall.IsZero() && now.Sub(e.LastCall) < l.Call {
		return UpYes
	}
	if e.Silence(now) < l.Boot && !e.Silent.Before(e.lastHeard()) {
		return UpNo
	}
	if !e.Answered.IsZero() && now.Sub(e.Answered) < l.Boot {
		return UpYes
	}
	return UpUnknown
}

// Phase says how far the board is.
func (e *Evidence) Phase(now time.Time, l Limits) Phase {
	if !e.Stopped.IsZero() && e.Stopped.After(e.DHCP) && e.Stopped.After(e.TFTP) && e.Stopped.After(e.Mounted) {
		return Stopped
	}
	// A boot attempt newer than the mount and still fresh is what the board does.
	if !e.Attempt.IsZero() && e.Attempt.After(e.Mounted) && now.Sub(Later(e.DHCP, e.TFTP)) < l.Boot {
		if e.TFTP.IsZero() || e.TFTP.Before(e.Attempt) {
			return DHCP
		}
		return TFTP
	}
	if e.HasRoot && e.Up(now, l) == UpNo {
		return Down
	}
	switch {
	case !e.Good.IsZero() && !e.Good.Before(e.Mounted):
		return Good
	case !e.InitRead.IsZero() && !e.InitRead.Before(e.Mounted):
		return Running
	case e.Adopted && !e.LastCall.IsZero():
		return Running
	case !e.Mounted.IsZero():
		return Mounted
	}
	return Unseen
}

// Since is when the board entered its phase, as well as is known.
func (e *Evidence) Since(p Phase) time.Time {
	switch p {
	case DHCP, TFTP:
		return e.Attempt
	case Mounted:
		return e.Mounted
	case Running:
		return Later(e.InitRead, e.Mounted)
	case Good:
		return e.Good
	case Down:
		return e.lastHeard()
	case Stopped:
		return e.Stopped
	}
	return time.Time{}
}

// NewBoot says that the board asked by DHCP and then by TFTP for a boot that it
// has not mounted yet: a MOUNT now is a new boot. Both are asked for because
// file requests and MOUNTs can be sent with another's address.
func (e *Evidence) NewBoot(now time.Time, l Limits) bool {
	return !e.Attempt.IsZero() && e.Attempt.After(e.Mounted) && !e.DHCP.Before(e.Attempt) && !e.TFTP.Before(e.Attempt) &&
		now.Sub(Later(e.DHCP, e.TFTP)) < 15*l.Boot
}

// Later is the later one of two times.
func Later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
