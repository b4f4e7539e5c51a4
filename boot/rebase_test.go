package boot_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/nfsexport"
)

func two() boot.Order { return boot.Order{To: imageref.Ref{Name: "lab", Version: 2}} }

func (l *lab) move() record.Move {
	l.Helper()
	m := l.statusA().Move
	if m == nil {
		l.Fatal("the board has no move")
	}
	return *m
}

// settles lets the time pass after which a board's former root is quiet.
func (l *lab) settles(x nfsexport.Export) {
	l.Helper()
	l.calls(x)
	l.clock.add(6 * time.Minute)
	l.fleet.LookAfter(l.Context())
}

// TestRebase carries a board that is down over to a new version of its image, back, and
// over again. The image does not report boots: nothing goes back by itself.
func TestRebase(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	must(t, os.Remove(filepath.Join(x.Dir, "boot/firmware/bootcode.bin")))
	l.importImage("two")
	must(t, l.fleet.Stop(t.Context(), serialA))
	for round := range 2 {
		out, err := l.fleet.Rebase(t.Context(), serialA, two(), nil)
		if err != nil || out.To.String() != "lab@2" || out.From.String() != "lab@1" || out.Kept != 2 || out.Clashed != 0 || out.State != record.MoveTrial || out.Reports {
			t.Fatalf("rebased: %+v, %v", out, err)
		}
		if _, err := l.fleet.Rebase(t.Context(), serialA, two(), nil); !errors.Is(err, boot.ErrRefused) {
			t.Errorf("to where it is: %v", err)
		}
		old := x.ID
		x = l.boots(serialA, macA, addrA)
		if l.golden(x) != "two" || l.read(x, "mine") != "precious" || has(x, "boot/firmware/bootcode.bin") || x.ID == old {
			t.Errorf("round %d: golden %q, mine %q, export %s after %s", round, l.golden(x), l.read(x, "mine"), x.ID, old)
		}
		if st := l.statusA(); st.Running.String() != "lab@2" || st.Move.State != record.MoveMade {
			t.Errorf("it runs %s: %+v", st.Running, st.Move)
		}
		if round == 1 { // what it had is a snapshot by then
			l.settles(x)
			if m := l.move(); m.Former != 0 || m.Snapshot == 0 {
				t.Errorf("what the board had is not set aside: %+v", m)
			}
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
		for range 2 {
			st, err := l.fleet.Undo(t.Context(), serialA, nil)
			if err != nil || st != record.MoveUndone {
				t.Fatalf("undone: %s, %v", st, err)
			}
		}
		x = l.boots(serialA, macA, addrA)
		if l.golden(x) != "one" || l.read(x, "mine") != "precious" || has(x, "boot/firmware/bootcode.bin") {
			t.Errorf("round %d, undone: golden %q, mine %q", round, l.golden(x), l.read(x, "mine"))
		}
		all := l.snapshots()
		if !strings.HasSuffix(all[len(all)-1], "before the rebase to lab@2 was undone") {
			t.Errorf("what was undone is none of %q", all)
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
	}
}

// TestRebaseConflict: what both changed is nobody's until somebody says whose.
func TestRebaseConflict(t *testing.T) {
	for conflicts, want := range map[record.Conflicts]string{"": "", record.ConflictsBoard: "board", record.ConflictsImage: "two"} {
		l := newLab(t)
		x := l.boots(serialA, macA, addrA)
		l.put(x, "etc/golden", "board")
		l.importImage("two")
		must(t, l.fleet.Stop(t.Context(), serialA))
		_, err := l.fleet.Rebase(t.Context(), serialA, boot.Order{To: two().To, Conflicts: conflicts}, nil)
		if conflicts == "" {
			if !errors.Is(err, boot.ErrConflict) {
				t.Errorf("with a conflict: %v", err)
			}
			if x := l.boots(serialA, macA, addrA); l.golden(x) != "board" {
				t.Errorf("a refused rebase changed the board: %q", l.golden(x))
			}
			continue
		}
		must(t, err)
		if x := l.boots(serialA, macA, addrA); l.golden(x) != want {
			t.Errorf("conflicts are the %s's: %q", conflicts, l.golden(x))
		}
	}
}

// upLab is a lab with a board that runs on lab@1, which reports its boots, has written,
// and is to move to lab@2 at its next boot.
func upLab(t *testing.T, more ...string) (l *lab, h *heard, x nfsexport.Export) {
	t.Helper()
	l, h, _ = setLab(t, true)
	x = l.loads()
	l.put(x, "mine", "first")
	l.reports(x)
	l.importImage("two", append([]string{"boot/firmware/kernel8.img", "kernel one"}, more...)...)
	out, err := l.fleet.Rebase(t.Context(), serialA, two(), nil)
	if err != nil || out.State != record.MovePending || !out.Reports {
		t.Fatalf("of a board that runs: %+v, %v", out, err)
	}
	return l, h, x
}

// A board that runs moves when its next boot begins, with what it wrote until then, and
// is brought back in the same way.
func TestRebaseAtNextBoot(t *testing.T) {
	l, h, x := upLab(t)
	l.put(x, "mine", "second")
	l.restart()
	if m := l.move(); m.State != record.MovePending || l.golden(x) != "one" {
		t.Errorf("after a restart of the daemon: %+v", m)
	}
	uses, err := record.Uses(l.opt.State)
	must(t, err)
	if !slices.ContainsFunc(uses, func(u images.Use) bool { return u.Ref.String() == "lab@2" }) {
		t.Error("the version that a board is to move to is in nobody's use")
	}
	for round := range 2 {
		y := l.loads()
		if l.golden(y) != "two" || l.read(y, "mine") != "second" || y.ID == x.ID || l.move().State != record.MoveTrial {
			t.Fatalf("round %d: booted %q with %q: %+v", round, l.golden(y), l.read(y, "mine"), l.move())
		}
		if got := l.fetch("kernel8.img"); got != kernelOf(release, "first") { // the board's own
			t.Errorf("the kernel is %.20q", got)
		}
		l.reports(y)
		if m := l.move(); m.State != record.MoveGood || !strings.Contains(h.last("rebased").Text, "has moved to lab@2") {
			t.Errorf("reported as good: %+v, told %q", m, h.last("rebased").Text)
		}
		l.put(y, "mine", "third")
		if round == 1 {
			l.settles(y)
			if all := l.snapshots(); len(all) == 0 || !strings.HasSuffix(all[len(all)-1], record.RebaseNote+"lab@2") {
				t.Errorf("what the board had is none of %q", all)
			}
		}
		// Back again, while it runs.
		for range 2 {
			if st, err := l.fleet.Undo(t.Context(), serialA, nil); err != nil || st != record.MoveUndoing {
				t.Fatalf("undone: %s, %v", st, err)
			}
		}
		l.restart()
		x = l.loads()
		if l.golden(x) != "one" || l.read(x, "mine") != "second" || l.move().State != record.MoveUndone {
			t.Fatalf("round %d, undone: %q, %q, %+v", round, l.golden(x), l.read(x, "mine"), l.move())
		}
		l.reports(x)
		l.settles(x)
		if all := l.snapshots(); !strings.HasSuffix(all[len(all)-1], "before the rebase to lab@2 was undone") {
			t.Errorf("what was undone is none of %q", all)
		}
		if round == 0 {
			if _, err := l.fleet.Rebase(t.Context(), serialA, two(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A board whose boots on the new version are not good has what it had, and what it wrote
// there is a snapshot.
func TestRebaseGoesBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		boots int // on the new version
		boot  func(*lab)
		why   string
	}{
		{"not reported", 2, func(l *lab) { l.put(l.loads(), "mine", "of the trial") }, "it booted there 2 times and was not reported"},
		{"it does not find its root", 2, func(l *lab) {
			l.clock.add(time.Minute)
			l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
			l.fetch("start.elf")
			l.fetch("kernel8.img")
			l.fleet.Fetched(serialA, "kernel8.img")
		}, "it booted there 2 times and was not reported"},
		{"its kernel is never read", 10, func(l *lab) { l.boots(serialA, macA, addrA) }, "it began to boot there 10 times"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, h, _ := upLab(t)
			for i := range c.boots {
				c.boot(l)
				if m := l.move(); m.State != record.MoveTrial {
					t.Fatalf("boot %d of the trial: %+v", i, m)
				}
				if i == 0 {
					l.restart()
				}
			}
			wrote := l.move()
			x := l.loads()
			m := l.move()
			if l.golden(x) != "one" || l.read(x, "mine") != "first" || m.State != record.MoveBack || !strings.Contains(m.Why, c.why) {
				t.Fatalf("on %q with %q: %+v after %+v", l.golden(x), l.read(x, "mine"), m, wrote)
			}
			if text := h.last("rebased").Text; !strings.Contains(text, "goes back from lab@2 to lab@1: "+c.why) {
				t.Errorf("told %q", text)
			}
			l.reports(x)
			l.settles(x)
			all := l.snapshots()
			kept := len(all) > 0 && strings.HasSuffix(all[len(all)-1], "of the trial of lab@2, which was not good")
			if mounted := c.name != "it does not find its root"; kept != mounted {
				t.Errorf("snapshots %q", all)
			}
			if x = l.loads(); l.golden(x) != "one" {
				t.Error("the next boot is of the new version again")
			}
		})
	}
}

// A board that cannot be moved when its boot begins has what it had, and is told of.
func TestRebaseRefusedAtBoot(t *testing.T) {
	for _, c := range []struct {
		name, want, why string
		more            []string
		spoil           func(*lab, nfsexport.Export)
		state           record.MoveState
	}{
		{"a conflict that is new", "board", "changed the same files", nil, func(l *lab, x nfsexport.Export) { l.put(x, "etc/golden", "board") }, record.MoveFailed},
		{"boot files that do not do", "one", "its boot files", []string{"boot/firmware/config.txt", "kernel=vmlinuz\n"}, func(*lab, nfsexport.Export) {}, record.MoveBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, h, x := upLab(t, c.more...)
			c.spoil(l, x)
			y := l.loads()
			m := l.move()
			if y.ID != x.ID || l.golden(y) != c.want || l.read(y, "mine") != "first" || m.State != c.state || !strings.Contains(m.Why, c.why) {
				t.Errorf("booted %q: %+v", l.golden(y), m)
			}
			if text := h.last("rebased").Text; !strings.Contains(text, c.why) {
				t.Errorf("told %q", text)
			}
			if litter := l.litter(); len(litter) > 0 {
				t.Errorf("left behind %q", litter)
			}
			l.reports(y)
			l.restart()
			if z := l.loads(); z.ID != x.ID || l.move().State != c.state {
				t.Errorf("the next boot: %+v", l.move())
			}
		})
	}
}

// Whoever asks for files in the name of a board that runs makes it lose nothing: what
// it writes after the copy was made is carried over by its own boot.
func TestRebaseOfABoardThatRunsOn(t *testing.T) {
	l, _, x := upLab(t)
	forge := func() string {
		l.clock.add(time.Minute)
		l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
		l.fetch("start.elf")
		return l.statusA().Path
	}
	forge()
	if m := l.move(); m.State != record.MoveTrial {
		t.Fatalf("a boot that begins: %+v", m)
	}
	if now, ok := l.exp.get(x.ID); !ok || now.State != nfsexport.Ready {
		t.Fatal("the board's root is not served any more")
	}
	stale := fmt.Sprintf("/%s/%d", serialA, l.move().Slot)
	l.put(x, "mine", "after the copy")
	l.calls(x)
	// A MOUNT of the copy is none of the board's.
	if _, err := l.fleet.Mount(t.Context(), stale, netip.AddrPortFrom(addrA, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("the copy of what changed since is mounted: %v", err)
	}
	l.restart()
	if _, err := l.fleet.Mount(t.Context(), stale, netip.AddrPortFrom(addrA, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("after a restart the copy of what changed since is mounted: %v", err)
	}
	l.fetch("start.elf") // of the same attempt
	if y := l.loads(); l.golden(y) != "two" || l.read(y, "mine") != "after the copy" {
		t.Errorf("booted %q with %q", l.golden(y), l.read(y, "mine"))
	}
}

// A board that is replaced on trial leaves the trial to the other.
func TestRebaseReplaced(t *testing.T) {
	l, _, _ := upLab(t)
	l.loads()
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, l.fleet.Replace(t.Context(), serialA, serialB))
	l.want.Devices[serialB] = &boot.Device{Serial: serialB, Image: imageref.Ref{Name: "lab"}, Enabled: true}
	l.restart()
	if x := l.boots(serialB, macB, addrB); l.golden(x) != "two" || l.read(x, "mine") != "first" {
		t.Errorf("it boots %q", l.golden(x))
	}
	must(t, l.fleet.Stop(t.Context(), serialB))
	if st, err := l.fleet.Undo(t.Context(), serialB, nil); err != nil || st != record.MoveUndone {
		t.Errorf("undone: %s, %v", st, err)
	}
	if x := l.boots(serialB, macB, addrB); l.golden(x) != "one" {
		t.Errorf("undone, it boots %q", l.golden(x))
	}
}

// What was made for a boot that did not come goes again, and is made anew for the next;
// what was made of a board that is down goes when that is undone before it boots.
func TestRebaseOfNoBoot(t *testing.T) {
	uppers := func(l *lab) int {
		found, err := filepath.Glob(filepath.Join(l.opt.State, "devices", serialA.String(), "uppers", "*"))
		must(t, err)
		return len(found)
	}
	l, _, x := upLab(t)
	l.clock.add(time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	l.fetch("start.elf")
	if m := l.move(); m.State != record.MoveTrial || uppers(l) != 2 {
		t.Fatalf("a boot that begins: %+v, %d uppers", m, uppers(l))
	}
	l.clock.add(31 * time.Minute)
	l.calls(x)
	l.fleet.LookAfter(t.Context())
	if m := l.move(); m.State != record.MovePending || uppers(l) != 1 {
		t.Errorf("it did not go on: %+v, %d uppers", m, uppers(l))
	}
	if y := l.loads(); l.golden(y) != "two" {
		t.Errorf("and boots %q", l.golden(y))
	}

	l, _, _ = upLab(t)
	must(t, l.fleet.Stop(t.Context(), serialA))
	if out, err := l.fleet.Rebase(t.Context(), serialA, two(), nil); err != nil || out.State != record.MoveTrial || uppers(l) != 2 {
		t.Fatalf("of a board that is down: %+v, %v", out, err)
	}
	if _, err := l.fleet.Undo(t.Context(), serialA, nil); err != nil {
		t.Fatal(err)
	}
	if y := l.loads(); l.golden(y) != "one" || l.read(y, "mine") != "first" || uppers(l) != 1 || len(l.snapshots()) > 0 {
		t.Errorf("undone before it booted: %q, %d uppers, snapshots %q", l.golden(y), uppers(l), l.snapshots())
	}
}
