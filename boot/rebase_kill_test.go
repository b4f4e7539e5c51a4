package boot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"rubus/boot"
	"rubus/nfsexport"
)

// TestMoveKilledAtEveryStep ends the daemon at each step of a board's way to a new version
// and back: after a restart the board boots one of the two, whole, and both can be reached.
func TestMoveKilledAtEveryStep(t *testing.T) {
	boots := func(l *lab) nfsexport.Export {
		x := l.loads()
		if got := l.read(x, "mine"); got != "second" {
			l.Fatalf("/mine is %q", got)
		}
		l.reports(x)
		return x
	}
	// Each is harmless to do again.
	story := []func(*lab){
		func(l *lab) { // asked for while the board runs, and worked out at its next boot
			if _, err := l.fleet.Rebase(l.Context(), serialA, two(), nil); err != nil && !errors.Is(err, boot.ErrRefused) {
				l.Fatal(err)
			}
			boots(l)
		},
		func(l *lab) { // good, and what it had is set aside
			x := boots(l)
			l.settles(x)
			if got := l.golden(x); got != "two" {
				l.Fatalf("moved, and on %q", got)
			}
		},
		func(l *lab) { // undone while the board is down, from the snapshot
			must(l.T, l.fleet.Stop(l.Context(), serialA))
			if _, err := l.fleet.Undo(l.Context(), serialA, nil); err != nil {
				l.Fatal(err)
			}
		},
		func(l *lab) {
			if x := boots(l); l.golden(x) != "one" {
				l.Fatalf("undone, and on %q", l.golden(x))
			}
		},
	}
	whole := false
	for kill := 0; !whole; kill++ {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			l, _, _ := setLab(t, true)
			x := l.loads()
			l.put(x, "mine", "second")
			l.reports(x)
			l.importImage("two", "boot/firmware/kernel8.img", "kernel one")
			n, at, last := 0, 0, ""
			l.opt.Step = func(step string) {
				if n++; n > kill && last == "" {
					last = step
					runtime.Goexit() // dead: nothing more is done to the disk
				}
			}
			l.restart()
			l.calls(x)
			done := make(chan bool)
			go func() {
				defer close(done)
				for i, do := range story {
					at = i
					do(l)
				}
				done <- true
			}()
			whole = <-done
			if whole {
				if kill < 8 {
					t.Errorf("the whole way has %d steps: those of set aside and undone are missing", kill)
				}
				return
			}
			if last == "" {
				return // it failed, and said so
			}
			l.opt.Step = nil
			l.restart()
			must(t, l.fleet.Sweep(t.Context()))
			if litter := l.litter(); len(litter) > 0 {
				t.Errorf("killed at %q: left behind %q", last, litter)
			}
			uppers, err := filepath.Glob(filepath.Join(l.opt.State, "devices", serialA.String(), "uppers/*"))
			must(t, err)
			if slots := l.statusA().Slots; len(uppers) > len(slots) {
				t.Errorf("killed at %q: uppers %q of slots %+v", last, uppers, slots)
			}
			if x := boots(l); l.golden(x) != "one" && l.golden(x) != "two" {
				t.Errorf("killed at %q: on %q", last, l.golden(x))
			}
			for _, do := range story[at:] {
				do(l)
			}
			if _, err := os.Stat(filepath.Join(l.opt.State, "devices", serialA.String(), "device.json")); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() || kill > 40 {
			t.Fatal("it does not come to an end")
		}
	}
}
