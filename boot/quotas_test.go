package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rubus/boot"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/nfsexport"
)

// A quota holds at once for roots that are offered, is counted from what is on the
// disk, and outlives a restart.
func TestQuota(t *testing.T) {
	l := newLab(t)
	set := func(s device.Serial, q nfsexport.Space) {
		t.Helper()
		next := *l.want
		next.Devices = map[device.Serial]*boot.Device{}
		for serial, d := range l.want.Devices {
			c := *d
			if serial == s {
				c.Quota = q
			}
			next.Devices[serial] = &c
		}
		l.want = &next
		l.fleet.Apply(l.want)
	}
	x := l.boots(serialA, macA, addrA)
	y := l.boots(serialB, macB, addrB)
	if x.Quota.Counts() || x.Index != filepath.Join(x.Upper, "work/index") {
		t.Fatalf("without a quota: %+v", x.Quota.Max())
	}
	if st, _ := l.fleet.Board(serialA); st.Quota != nil {
		t.Errorf("without a quota: %+v", st.Quota)
	}
	if err := os.WriteFile(filepath.Join(x.Dir, "mine"), make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	limit := nfsexport.Space{Bytes: 5 << 20, Files: 1000}
	set(serialA, limit)
	if x.Quota.Max() != limit || y.Quota.Counts() {
		t.Fatalf("A may have %+v, B %+v", x.Quota.Max(), y.Quota.Max())
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			l.restart()
			x, _ = l.exp.get(x.ID)
		}
		if st, _ := l.fleet.Board(serialA); st.Quota == nil || st.Quota.Known || st.Quota.Limit != limit {
			t.Errorf("before it is counted (restarted: %v): %+v", restarted, st.Quota)
		}
		l.fleet.CountQuotas(t.Context())
		st, _ := l.fleet.Board(serialA)
		if q := st.Quota; q == nil || !q.Known || q.Used.Bytes < 3<<20 || q.Used.Bytes > 3<<20+64<<10 || q.Used.Files < 1 || q.Used.Files > 20 {
			t.Errorf("counted (restarted: %v): %+v", restarted, q)
		}
		if x.Quota.Take(3<<20, 0) {
			t.Errorf("more than the quota was taken (restarted: %v)", restarted)
		}
	}
	set(serialA, nfsexport.Space{})
	if !x.Quota.Take(3<<20, 0) {
		t.Error("no quota any more, and it is refused")
	}
}

// What copies a board's writes leaves the reserve free, and nothing behind when it
// cannot.
func TestCopiesLeaveTheReserve(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "first")
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); err != nil {
		t.Fatal(err)
	}
	l.opt.Reserve = 1 << 60
	l.restart()
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); !errors.Is(err, writes.ErrNoSpace) {
		t.Errorf("a snapshot without room: %v", err)
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	if err := l.fleet.Restore(t.Context(), serialA, 1, nil); !errors.Is(err, writes.ErrNoSpace) {
		t.Errorf("a restore without room: %v", err)
	}
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Keep: []string{"/mine"}}); !errors.Is(err, writes.ErrNoSpace) {
		t.Errorf("a reset that keeps something, without room: %v", err)
	}
	l.importImage("two", "boot/firmware/kernel8.img", "kernel one")
	if _, err := l.fleet.Rebase(t.Context(), serialA, two(), nil); !errors.Is(err, writes.ErrNoSpace) {
		t.Errorf("a rebase without room: %v", err)
	}
	if got := l.litter(); len(got) > 0 || len(l.snapshots()) != 1 {
		t.Errorf("left: %q, snapshots %q", got, l.snapshots())
	}
	// It boots all the same, and has what it had.
	if got := l.read(l.boots(serialA, macA, addrA), "mine"); got != "first" {
		t.Errorf("the board has %q", got)
	}
}
