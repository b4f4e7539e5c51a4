package handlefs

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
)

// stamp is when a directory changed last. The kernel sets both times when an
// entry comes or goes, and nobody can set ctime.
type stamp struct{ mtime, ctime unix.Timespec }

func stampOf(st *unix.Stat_t) stamp { return stamp{st.Mtim, st.Ctim} }

// settleTime is how far the clock that the kernel stamps files with must have gone on
// since: a tick, generously. noFraction is for file systems that keep no fraction
// (ext4 with small inodes).
const (
	settleTime = 50 * time.Millisecond
	noFraction = 2 * time.Second
)

// stampTime is the clock that the kernel stamps files with; when it cannot be read,
// long ago. It goes on with the ticks: where a machine was stopped for a while, or one
// of its processors, it may be behind the exact clock by as much.
func stampTime() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) != nil {
		return time.Time{}
	}
	return time.Unix(ts.Unix())
}

// settled says whether a directory with this stamp cannot change after now without
// getting another, now being of stampTime: its last change lies so long ago that the
// next one is later on that clock. What is looked up in a settled directory after now
// holds for as long as its stamp stays the same, whoever may change it. What was looked
// up before may have changed in the tick of the stamp.
func (s *stamp) settled(now time.Time) bool {
	d := settleTime
	if s.ctime.Nsec == 0 {
		d += noFraction
	}
	return now.Add(-d).UnixNano() > s.ctime.Nano()
}

// names remembers what names in settled directories stand for, or that nothing
// has them. It is a table of fixed size: who comes later takes the place.
type names struct {
	seed  maphash.Seed
	slots [nameSlots]atomic.Pointer[nameEntry]
}

// nameSlots times about 200 bytes is what names may take.
const nameSlots = 1 << 14

// nameEntry never changes.
type nameEntry struct {
	dir  uint64 // object.id
	at   stamp  // of the directory, before the name was asked for
	name string
	none bool        // there is nothing of that name
	key  fhandle.Key // with none it says the export alone
}

func (n *names) slot(dir uint64, name string) *atomic.Pointer[nameEntry] {
	var h maphash.Hash
	h.SetSeed(n.seed)
	h.WriteString(name)
	return &n.slots[(h.Sum64()^dir*0x9e3779b97f4a7c15)%nameSlots]
}

// find gives what is remembered, if it still holds: st are the attributes of dir now.
func (n *names) find(dir *object, st *unix.Stat_t, name string) *nameEntry {
	e := n.slot(dir.id, name).Load()
	if e == nil || e.dir != dir.id || e.at != stampOf(st) || e.name != name {
		return nil
	}
	return e
}

// forget lets go of all names below an export, whose directories are closed for good: when
// it comes back they are others, and nobody would ask for these again.
func (n *names) forget(id nfsexport.ID) {
	for i := range n.slots {
		if e := n.slots[i].Load(); e != nil && e.key.Export() == id {
			n.slots[i].CompareAndSwap(e, nil)
		}
	}
}
