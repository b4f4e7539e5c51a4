package stamp

import (
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is when a directory changed last. The kernel sets both times when an
// entry comes or goes, and nobody can set ctime.
type Stamp struct{ mtime, ctime unix.Timespec }

// Of gives the stamp that is in attributes.
func Of(st *unix.Stat_t) Stamp { return Stamp{st.Mtim, st.Ctim} }

// SettleTime is how far the clock that the kernel stamps files with must have gone on
// since: a tick, generously. noFraction is for file systems that keep no fraction
// (ext4 with small inodes).
const (
	SettleTime = 50 * time.Millisecond
	noFraction = 2 * time.Second
)

// Now is the clock that the kernel stamps files with; when it cannot be read,
// long ago. It goes on with the ticks: where a machine was stopped for a while, or one
// of its processors, it may be behind the exact clock by as much.
func Now() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) != nil {
		return time.Time{}
	}
	return time.Unix(ts.Unix())
}

// Settled says whether a directory with this stamp cannot change after now without
// getting another, now being of Now: its last change lies so long ago that the
// next one is later on that clock. What is looked up in a settled directory after now
// holds for as long as its stamp stays the same, whoever may change it. What was looked
// up before may have changed in the tick of the stamp.
func (s *Stamp) Settled(now time.Time) bool {
	d := SettleTime
	if s.ctime.Nsec == 0 {
		d += noFraction
	}
	return now.Add(-d).UnixNano() > s.ctime.Nano()
}

// Identity is what tells a layer's file from a copy of it.
type Identity struct {
	Stamp
	ino  uint64
	size int64
	mode uint32
}

// Identify gives the identity that is in attributes.
func Identify(st *unix.Stat_t) Identity { return Identity{Of(st), st.Ino, st.Size, st.Mode} }
