package boot_test

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/boot/writes"
)

// TestSnapshotForATime: a snapshot that somebody takes for a purpose of his own goes by
// itself when he does not live to remove it.
func TestSnapshotForATime(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	_, err := l.fleet.Snapshot(t.Context(), serialA, "stays", nil)
	must(t, err)
	_, err = l.fleet.SnapshotFor(t.Context(), serialA, "goes", time.Hour, nil)
	must(t, err)
	l.clock.add(59 * time.Minute)
	l.fleet.Expire(t.Context())
	if all := l.snapshots(); len(all) != 2 {
		t.Errorf("before its time is over: %q", all)
	}
	l.clock.add(time.Minute)
	l.fleet.Expire(t.Context())
	if all := l.snapshots(); len(all) != 1 || all[0] != "1 stays" {
		t.Errorf("when its time is over: %q", all)
	}
}

// TestUndoneLate: what an undone rebase is to bring back when the board boots next stays until
// then, however long it runs on.
func TestUndoneLate(t *testing.T) {
	l, _, _ := upLab(t)
	x := l.loads()
	l.reports(x)
	l.settles(x)
	if st, err := l.fleet.Undo(t.Context(), serialA, nil); err != nil || st != record.MoveUndoing {
		t.Fatalf("undone: %s, %v", st, err)
	}
	n := l.move().Snapshot
	l.clock.add(31 * 24 * time.Hour)
	l.fleet.Expire(t.Context())
	if err := l.fleet.RemoveSnapshot(t.Context(), serialA, n); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("snapshot %d is taken away: %v", n, err)
	}
	if x = l.loads(); l.golden(x) != "one" || l.read(x, "mine") != "first" || l.move().State != record.MoveUndone {
		t.Errorf("it boots %q with %q: %+v", l.golden(x), l.read(x, "mine"), l.move())
	}
	l.fleet.Expire(t.Context())
	if err := l.fleet.RemoveSnapshot(t.Context(), serialA, n); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("snapshot %d, which was brought back, stays: %v", n, err)
	}
}

// TestWaits: as long as a board is prepared, and no longer, it is told that disks are waited
// for, also when it cannot be.
func TestWaits(t *testing.T) {
	l := newLab(t)
	var now, most atomic.Int64
	l.opt.Waits = func(n int) {
		if v := now.Add(int64(n)); v > most.Load() {
			most.Store(v)
		}
	}
	l.restart()
	want := func(when string, wantMost int64) {
		t.Helper()
		if n, m := now.Load(), most.Swap(0); n != 0 || m != wantMost {
			t.Errorf("%s: %d wait, %d did, want 0 and %d", when, n, m, wantMost)
		}
	}
	l.boots(serialA, macA, addrA)
	want("a boot", 1)
	_, err := l.file(serialA.String()+"/start.elf", addrA)
	must(t, err)
	want("another file of it", 0)
	l.exp.failReady = 1
	l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB, Stage: "eeprom"})
	if _, err := l.file(serialB.String()+"/start.elf", addrB); err == nil {
		t.Error("a board that is not served is prepared")
	}
	want("a board that cannot be served", 1)
}

// TestUnserved: without a daemon a board whose root the kernel's server may offer is not
// taken for one that does not write.
func TestUnserved(t *testing.T) {
	l := newLab(t)
	l.boots(serialA, macA, addrA)
	want := func(when string, want error) {
		t.Helper()
		if err := writes.Unserved(l.opt.State, serialA); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	want("our server, which went with the daemon", nil)
	must(t, os.WriteFile(record.BackendFile(l.opt.State), []byte("kernel\n"), 0o600))
	want("the kernel's server", writes.ErrServed)
	must(t, l.fleet.Stop(t.Context(), serialA))
	want("a board that was cut off", nil)
	must(t, os.WriteFile(record.BackendFile(l.opt.State), []byte("user\n"), 0o600))
	l.boots(serialA, macA, addrA)
	want("our server again", nil)
}
