package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rubus/boot"
	"rubus/images/imageref"
)

// TestRebase carries a board over to a new version of its image, back, and over again.
func TestRebase(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	must(t, os.Remove(filepath.Join(x.Dir, "boot/firmware/bootcode.bin")))
	l.importImage("two")
	two := imageref.Ref{Name: "lab"}
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	if _, err := l.fleet.Rebase(t.Context(), serialA, two, "", nil); !errors.Is(err, boot.ErrUp) {
		t.Errorf("under a running board: %v", err)
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	for round := range 2 {
		out, err := l.fleet.Rebase(t.Context(), serialA, two, "", nil)
		if err != nil || out.To.String() != "lab@2" || out.From.String() != "lab@1" || out.Kept != 2 || out.Clashed != 0 {
			t.Fatalf("rebased: %+v, %v", out, err)
		}
		if _, err := l.fleet.Rebase(t.Context(), serialA, two, "", nil); !errors.Is(err, boot.ErrRefused) {
			t.Errorf("to where it is: %v", err)
		}
		old := x.ID
		x = l.boots(serialA, macA, addrA)
		if l.golden(x) != "two" || l.read(x, "mine") != "precious" || has(x, "boot/firmware/bootcode.bin") || x.ID == old {
			t.Errorf("round %d: golden %q, mine %q, export %s after %s", round, l.golden(x), l.read(x, "mine"), x.ID, old)
		}
		if st, _ := l.fleet.Board(serialA); st.Running.String() != "lab@2" {
			t.Errorf("it runs %s", st.Running)
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
		// Undone: what it had is a snapshot.
		all, err := l.fleet.Snapshots(serialA)
		must(t, err)
		last := all[len(all)-1]
		if last.Note != boot.RebaseNote+"lab@2" {
			t.Fatalf("the last snapshot is %+v", last)
		}
		must(t, l.fleet.Restore(t.Context(), serialA, last.N, nil))
		x = l.boots(serialA, macA, addrA)
		if l.golden(x) != "one" || l.read(x, "mine") != "precious" || has(x, "boot/firmware/bootcode.bin") {
			t.Errorf("round %d, undone: golden %q, mine %q", round, l.golden(x), l.read(x, "mine"))
		}
		must(t, l.fleet.Stop(t.Context(), serialA))
	}
}

// TestRebaseConflict: what both changed is nobody's until somebody says whose.
func TestRebaseConflict(t *testing.T) {
	for conflicts, want := range map[boot.Conflicts]string{"": "", boot.ConflictsBoard: "board", boot.ConflictsImage: "two"} {
		l := newLab(t)
		x := l.boots(serialA, macA, addrA)
		l.put(x, "etc/golden", "board")
		l.importImage("two")
		must(t, l.fleet.Stop(t.Context(), serialA))
		_, err := l.fleet.Rebase(t.Context(), serialA, imageref.Ref{Name: "lab", Version: 2}, conflicts, nil)
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
