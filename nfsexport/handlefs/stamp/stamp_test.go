package stamp

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSettled(t *testing.T) {
	const sec = 1_700_000_000
	at := func(nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }
	for _, c := range []struct {
		name         string
		mtime, ctime unix.Timespec
		later        time.Duration // than ctime
		want         bool
	}{
		{"at once", at(1), at(1), 0, false},
		{"as long as may be unseen", at(1), at(1), SettleTime, false},
		{"longer", at(1), at(1), SettleTime + 1, true},
		{"before", at(1), at(1), -time.Hour, false},
		{"an mtime that was set", unix.Timespec{Sec: 1}, at(1), SettleTime, false},
		{"an mtime of the future", unix.Timespec{Sec: 2 * sec}, at(1), SettleTime + 1, true},
		{"no fraction is kept", at(0), at(0), SettleTime + noFraction, false},
		{"nor then", at(0), at(0), SettleTime + noFraction + 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Of(&unix.Stat_t{Mtim: c.mtime, Ctim: c.ctime})
			if got := s.Settled(time.Unix(c.ctime.Unix()).Add(c.later)); got != c.want {
				t.Errorf("settled: %v", got)
			}
		})
	}
	if s := Of(&unix.Stat_t{Ctim: at(1)}); s.Settled(time.Time{}) {
		t.Error("settled by a clock that cannot be read")
	}
}

// TestIdentify: each of what a copy may have otherwise makes another identity, and what
// reading moves does not.
func TestIdentify(t *testing.T) {
	is := unix.Stat_t{Ino: 7, Size: 8, Mode: unix.S_IFREG | 0o644, Nlink: 1, Mtim: unix.Timespec{Sec: 1}, Ctim: unix.Timespec{Sec: 2}}
	for name, c := range map[string]struct {
		change func(*unix.Stat_t)
		same   bool
	}{
		"nothing": {func(*unix.Stat_t) {}, true},
		"inode":   {func(st *unix.Stat_t) { st.Ino++ }, false},
		"size":    {func(st *unix.Stat_t) { st.Size++ }, false},
		"mode":    {func(st *unix.Stat_t) { st.Mode ^= 0o100 }, false},
		"mtime":   {func(st *unix.Stat_t) { st.Mtim.Nsec++ }, false},
		"ctime":   {func(st *unix.Stat_t) { st.Ctim.Nsec++ }, false},
		"atime":   {func(st *unix.Stat_t) { st.Atim.Nsec++ }, true},
		"links":   {func(st *unix.Stat_t) { st.Nlink++ }, true},
	} {
		st := is
		if c.change(&st); (Identify(&st) == Identify(&is)) != c.same {
			t.Errorf("%s: the same identity: %v", name, !c.same)
		}
	}
}
