package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/config/device"
)

// TestReplace: a board that was never seen takes over from a dead one; done twice it is
// done once.
func TestReplace(t *testing.T) {
	l := newLab(t)
	l.want.Devices[serialB].Ephemeral = false
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "kept", nil); err != nil {
		t.Fatal(err)
	}
	if err := l.fleet.Replace(t.Context(), serialA, serialA); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("by itself: %v", err)
	}
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	if err := l.fleet.Replace(t.Context(), serialA, serialB); !errors.Is(err, boot.ErrUp) {
		t.Errorf("while it is up: %v", err)
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	for range 2 {
		must(t, l.fleet.Replace(t.Context(), serialA, serialB))
	}
	y := l.boots(serialB, macB, addrB)
	if l.read(y, "mine") != "precious" || y.ID == x.ID {
		t.Errorf("the new board reads %q by export %s, the old one's was %s", l.read(y, "mine"), y.ID, x.ID)
	}
	if all, err := l.fleet.Snapshots(serialB); err != nil || len(all) != 1 || all[0].Note != "kept" {
		t.Errorf("snapshots %+v, %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(l.opt.State, "devices", serialA.String())); !os.IsNotExist(err) {
		t.Errorf("the old board's directory: %v", err)
	}
	// The old one comes back to life: nothing of it is left but its image.
	if z := l.boots(serialA, macA, addrA); l.read(z, "mine") != "(none)" {
		t.Error("two boards have the same writes")
	}
	l.put(y, "mine", "more")
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, l.fleet.Stop(t.Context(), serialB))
	if err := l.fleet.Replace(t.Context(), serialA, serialB); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("over a board with writes: %v", err)
	}
	must(t, l.fleet.Replace(t.Context(), serialB, serialA)) // over one without
	if z := l.boots(serialA, macA, addrA); l.read(z, "mine") != "more" {
		t.Error("it did not come back")
	}
}

// A board on trial has writes, though the slot that it boots next may have none; and what
// device.json does not name nobody said to remove.
func TestReplaceKeepsWhatIsThere(t *testing.T) {
	l, _ := pairLab(t)
	y := l.boots(serialB, macB, addrB)
	must(t, os.Remove(filepath.Join(y.Dir, "mine")))
	must(t, os.Remove(filepath.Join(y.Dir, unit)))
	must(t, os.RemoveAll(filepath.Join(y.Dir, "var")))
	l.put(y, "etc/golden", "edited")
	for _, s := range []device.Serial{serialA, serialB} {
		must(t, l.fleet.Stop(t.Context(), s))
	}
	order := two()
	order.Conflicts = record.ConflictsImage
	_, err := l.fleet.Rebase(t.Context(), serialB, order, nil)
	must(t, err)
	if err := l.fleet.Replace(t.Context(), serialA, serialB); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("over a board on trial: %v", err)
	}
	_, err = l.fleet.Undo(t.Context(), serialB, nil)
	must(t, err)
	if y = l.boots(serialB, macB, addrB); l.golden(y) != "edited" {
		t.Errorf("the board boots %q", l.golden(y))
	}
	must(t, l.fleet.Stop(t.Context(), serialB))
	uppers := filepath.Join(l.opt.State, "devices", serialB.String(), "uppers")
	found, err := filepath.Glob(uppers + "/*.*")
	must(t, err)
	stray := strings.TrimSuffix(found[0], filepath.Ext(found[0])) + ".77"
	put(t, stray, "upper/other", "of another time")
	must(t, os.MkdirAll(stray+"/work", 0o700))
	must(t, l.fleet.Reset(t.Context(), serialB, boot.ResetOptions{}))
	if text, err := os.ReadFile(stray + "/upper/other"); err != nil || string(text) != "of another time" {
		t.Errorf("after a reset an upper that no slot names has %q: %v", text, err)
	}
	all, err := l.fleet.Snapshots(serialB)
	must(t, err)
	for _, s := range all {
		must(t, l.fleet.RemoveSnapshot(t.Context(), serialB, s.N))
	}
	if err := l.fleet.Replace(t.Context(), serialA, serialB); !errors.Is(err, boot.ErrRefused) || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("over an upper that no slot names: %v", err)
	}
}

// TestReplaceKilledAtEveryStep: one of the two boards has it all.
func TestReplaceKilledAtEveryStep(t *testing.T) {
	for kill := range 3 {
		l := newLab(t)
		l.want.Devices[serialB].Ephemeral = false
		x := l.boots(serialA, macA, addrA)
		l.put(x, "mine", "precious")
		must(t, l.fleet.Stop(t.Context(), serialA))
		last := l.killedAfter(kill, func() error { return l.fleet.Replace(t.Context(), serialA, serialB) })
		if whole := last == ""; whole != (kill == 2) {
			t.Fatalf("killed after %d steps, and whole: %v", kill, whole)
		}
		must(t, l.fleet.Replace(t.Context(), serialA, serialB))
		if y := l.boots(serialB, macB, addrB); l.read(y, "mine") != "precious" {
			t.Errorf("killed at step %d: the writes are lost", kill)
		}
	}
}
