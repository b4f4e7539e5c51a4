package boot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/boot/writes"
	"rubus/images/imageref"
	"rubus/images/upper"
	"rubus/nfsexport"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) put(x nfsexport.Export, name, text string) {
	l.Helper()
	must(l.T, os.WriteFile(filepath.Join(x.Dir, name), []byte(text), 0o644))
}

func (l *lab) read(x nfsexport.Export, name string) string {
	l.Helper()
	b, err := os.ReadFile(filepath.Join(x.Dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return "(none)"
	}
	must(l.T, err)
	return string(b)
}

func (l *lab) snapshots() (out []string) {
	l.Helper()
	all, err := l.fleet.Snapshots(serialA)
	must(l.T, err)
	for _, s := range all {
		out = append(out, fmt.Sprintf("%d %s", s.N, s.Note))
	}
	return out
}

// litter names what a crash left behind.
func (l *lab) litter() (out []string) {
	l.Helper()
	for _, pattern := range []string{"uppers/.*", "snapshots/.*", "uppers/*/unrecorded"} {
		found, err := filepath.Glob(filepath.Join(l.opt.State, "devices", serialA.String(), pattern))
		must(l.T, err)
		out = append(out, found...)
	}
	return out
}

// TestSnapshotAndRestore goes back and forth between states of a board, twice.
func TestSnapshotAndRestore(t *testing.T) {
	l := newLab(t)
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("a snapshot of a board that was never seen: %v", err)
	}
	x := l.boots(serialA, macA, addrA)
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); !errors.Is(err, writes.ErrNothing) {
		t.Errorf("a snapshot of nothing: %v", err)
	}
	l.put(x, "etc/golden", "first")
	l.put(x, "mine", "first")
	// On a running board: its writes are held for the copy.
	s, err := l.fleet.Snapshot(t.Context(), serialA, "the first", nil)
	must(t, err)
	if s.N != 1 || s.Files == 0 || s.Bytes != 10 || s.Image.String() != "lab@1" || l.exp.held != 1 || l.exp.released != 1 {
		t.Errorf("snapshot %+v; held %d times, released %d times", s, l.exp.held, l.exp.released)
	}
	l.put(x, "mine", "second")
	must(t, os.Remove(filepath.Join(x.Dir, "etc/golden")))
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	if err := l.fleet.Restore(t.Context(), serialA, 1, nil); !errors.Is(err, boot.ErrUp) {
		t.Errorf("restored under a running board: %v", err)
	}
	for round := range 2 {
		old := x.ID
		must(t, l.fleet.Stop(t.Context(), serialA))
		must(t, l.fleet.Restore(t.Context(), serialA, 1, nil))
		x = l.boots(serialA, macA, addrA)
		if l.read(x, "mine") != "first" || l.read(x, "etc/golden") != "first" {
			t.Errorf("round %d: restored %q and %q", round, l.read(x, "mine"), l.read(x, "etc/golden"))
		}
		if x.ID == old {
			t.Error("the former root's handles are good for the restored one")
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
		// What it had before came to be a snapshot: back to it.
		all := l.snapshots()
		want := 2 + 2*round
		if len(all) != want || all[want-1] != fmt.Sprintf("%d before snapshot 1 was restored", want) {
			t.Fatalf("snapshots %q", all)
		}
		must(t, l.fleet.Restore(t.Context(), serialA, want, nil))
		x = l.boots(serialA, macA, addrA)
		if l.read(x, "mine") != "second" || l.read(x, "etc/golden") != "(none)" {
			t.Errorf("round %d: went back to %q and %q", round, l.read(x, "mine"), l.read(x, "etc/golden"))
		}
	}
	if err := l.fleet.Restore(t.Context(), serialA, 99, nil); !errors.Is(err, boot.ErrUp) && !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("restored what is not there: %v", err)
	}
	uses, err := record.Uses(l.opt.State)
	must(t, err)
	if n := len(uses); n != 6 {
		t.Errorf("%d uses of images, want one root and five snapshots", n)
	}
	must(t, l.fleet.RemoveSnapshot(t.Context(), serialA, 1))
	if err := l.fleet.RemoveSnapshot(t.Context(), serialA, 1); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if s, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); err != nil || s.N != 6 {
		t.Errorf("the next snapshot is %d (%v)", s.N, err)
	}
}

// TestSnapshotGivesWay: a board that boots does not wait for a copy of what it wrote.
func TestSnapshotGivesWay(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	for i := range 800 {
		l.put(x, fmt.Sprint("file", i), "mine")
	}
	l.clock.add(time.Minute)
	booted := make(chan error, 1)
	var once sync.Once
	_, err := l.fleet.Snapshot(t.Context(), serialA, "", func(upper.Size) {
		once.Do(func() {
			l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
			go func() {
				_, err := l.file(serialA.String()+"/start.elf", addrA)
				booted <- err
			}()
			for l.statusA().Phase != phase.TFTP {
				runtime.Gosched()
			}
		})
		runtime.Gosched()
	})
	if !errors.Is(err, boot.ErrBoots) {
		t.Errorf("a copy that a boot comes into: %v", err)
	}
	if err := <-booted; err != nil {
		t.Errorf("the boot: %v", err)
	}
	if all, litter := l.snapshots(), l.litter(); len(all) > 0 || len(litter) > 0 || l.exp.held != l.exp.released {
		t.Errorf("snapshots %q, left behind %q, held %d times, released %d times", all, litter, l.exp.held, l.exp.released)
	}
	if _, err := l.fleet.Snapshot(t.Context(), serialA, "", nil); err != nil {
		t.Errorf("and again: %v", err)
	}
}

// TestResetIsUndone: a reset keeps what it takes away, for a time.
func TestResetIsUndone(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	for range 2 {
		must(t, l.fleet.Stop(t.Context(), serialA))
		must(t, l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}))
		x = l.boots(serialA, macA, addrA)
		if l.read(x, "mine") != "(none)" || l.golden(x) != "one" {
			t.Error("a reset board does not start from its image")
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
		all, err := l.fleet.Snapshots(serialA)
		must(t, err)
		must(t, l.fleet.Restore(t.Context(), serialA, all[len(all)-1].N, nil))
		x = l.boots(serialA, macA, addrA)
		if l.read(x, "mine") != "precious" {
			t.Error("what a reset took away did not come back")
		}
	}
	if n := len(l.snapshots()); n != 2 {
		t.Fatalf("%d snapshots; a root that was never written to is none", n)
	}
	l.clock.add(29 * 24 * time.Hour)
	l.fleet.Expire(t.Context())
	if n := len(l.snapshots()); n != 2 {
		t.Errorf("%d snapshots after 29 days", n)
	}
	l.clock.add(2 * 24 * time.Hour)
	l.fleet.Expire(t.Context())
	if n := len(l.snapshots()); n != 0 {
		t.Errorf("%d snapshots after 31 days", n)
	}
}

// TestResetKeeps: a reset keeps what it is told to, over the image as it is tagged now.
func TestResetKeeps(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "etc/golden", "mine")
	l.put(x, "etc/kept", "mine")
	must(t, os.MkdirAll(filepath.Join(x.Dir, "home/pi"), 0o755))
	l.put(x, "home/pi/file", "mine")
	must(t, os.Remove(filepath.Join(x.Dir, "boot/firmware/bootcode.bin")))
	l.importImage("two")
	for range 2 {
		var copied upper.Size
		must(t, l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{
			Force: true, Keep: []string{"/home", "etc/kept"}, Progress: func(s upper.Size) { copied = s },
		}))
		if copied.Files < 2 || copied.Bytes < 8 {
			t.Errorf("it told that %+v was copied", copied)
		}
		x = l.boots(serialA, macA, addrA)
		if l.golden(x) != "two" || l.read(x, "etc/kept") != "mine" || l.read(x, "home/pi/file") != "mine" || !has(x, "boot/firmware/bootcode.bin") {
			t.Errorf("golden %q, kept %q and %q", l.golden(x), l.read(x, "etc/kept"), l.read(x, "home/pi/file"))
		}
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, l.fleet.Restore(t.Context(), serialA, 1, nil))
	if x = l.boots(serialA, macA, addrA); l.golden(x) != "mine" || has(x, "boot/firmware/bootcode.bin") {
		t.Error("a reset that keeps something cannot be undone")
	}
}

// TestStateKilledAtEveryStep ends the daemon at each step of what changes a board's
// state: after a restart the board has what it had, or what was asked for.
func TestStateKilledAtEveryStep(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(*lab) error
		after string // what /mine says when it was done
		steps int
	}{
		"snapshot": {func(l *lab) error {
			_, err := l.fleet.Snapshot(l.Context(), serialA, "two", nil)
			return err
		}, "second", 1},
		"reset": {func(l *lab) error { return l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{}) }, "(none)", 3},
		"reset that keeps": {func(l *lab) error {
			return l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{Keep: []string{"kept"}})
		}, "(none)", 4},
		"restore": {func(l *lab) error { return l.fleet.Restore(l.Context(), serialA, 1, nil) }, "first", 4},
		"rebase": {func(l *lab) error {
			_, err := l.fleet.Rebase(l.Context(), serialA, boot.Order{To: imageref.Ref{Name: "lab", Version: 2}}, nil)
			if errors.Is(err, boot.ErrRefused) { // it is there
				return nil
			}
			return err
		}, "second", 2},
		"remove": {func(l *lab) error {
			err := l.fleet.RemoveSnapshot(l.Context(), serialA, 1)
			if errors.Is(err, boot.ErrNotFound) { // it is gone
				return nil
			}
			return err
		}, "second", 1},
	} {
		for kill := range c.steps + 1 {
			t.Run(fmt.Sprintf("%s/%d", name, kill), func(t *testing.T) {
				l := newLab(t)
				x := l.boots(serialA, macA, addrA)
				l.put(x, "mine", "first")
				l.put(x, "kept", "kept")
				if _, err := l.fleet.Snapshot(t.Context(), serialA, "one", nil); err != nil {
					t.Fatal(err)
				}
				l.put(x, "mine", "second")
				l.importImage("two")
				must(t, l.fleet.Stop(t.Context(), serialA))
				last := l.killedAfter(kill, func() error { return c.do(l) })
				if whole := last == ""; whole != (kill == c.steps) {
					t.Fatalf("killed after %d steps, and whole: %v", kill, whole)
				}
				x = l.boots(serialA, macA, addrA)
				got := l.read(x, "mine")
				if got != "second" && got != c.after || last == "" && got != c.after {
					t.Errorf("killed at %q: /mine is %q", last, got)
				}
				if kept := l.read(x, "kept"); kept != "kept" && !(name == "reset" && got == "(none)") {
					t.Errorf("killed at %q: /kept is %q", last, kept)
				}
				if litter := l.litter(); len(litter) > 0 {
					t.Errorf("killed at %q: left behind %q", last, litter)
				}
				if name == "remove" && len(l.snapshots()) != 0 {
					t.Errorf("killed at %q: there are %q", last, l.snapshots())
				}
				// What the board had is there: under it, or as a snapshot.
				if got != "second" && !slices.ContainsFunc(l.snapshots(), func(s string) bool { return strings.HasPrefix(s, "2 before") }) {
					t.Errorf("killed at %q: the board's writes are in none of %q", last, l.snapshots())
				}
				must(t, l.fleet.Stop(t.Context(), serialA))
				if last != "" {
					must(t, c.do(l)) // and again, whole
				}
			})
		}
	}
}
