package writes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rubus/boot/record"
)

// TestHandOver: all of a board is another's, also when a crash comes after the record said so;
// the other's directory is not written over.
func TestHandOver(t *testing.T) {
	now := serial(t, "c0ffee02")
	for name, killed := range map[string]bool{"whole": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			rec := s.record(s.slot(1, "mine"))
			rec.TakeOver(now)
			func() {
				defer func() { _ = recover() }()
				must(t, s.HandOver(&rec, func() {
					if got := dirs(t, s.State); !slices.Equal(got, []string{"c0ffee01"}) {
						t.Errorf("before it is moved there is %q", got)
					}
					if killed {
						panic("killed")
					}
				}))
			}()
			must(t, FinishReplaces(s.State))
			other := Board{State: s.State, Serial: now, Layers: s.Layers}
			got, err := record.Load(s.State, now)
			must(t, err)
			if w, err := other.Written(got); err != nil || w.N != 1 || !slices.Equal(dirs(t, s.State), []string{"c0ffee02"}) {
				t.Errorf("slot %d, %v, of %q", w.N, err, dirs(t, s.State))
			}
			// Another that has something keeps it.
			s.make(filepath.Join(s.paths().Dir(), "file"), "")
			rec.TakeOver(s.Serial)
			if err := other.HandOver(&rec, func() {}); !errors.Is(err, os.ErrExist) || !s.has("file") {
				t.Errorf("to one that has something: %v", err)
			}
		})
	}
}

// TestDiscardAndMoveIn: nothing is left of a board, and then it has what a directory had.
func TestDiscardAndMoveIn(t *testing.T) {
	s := newShelf(t)
	s.record(s.slot(1, "mine"))
	kept := filepath.Join(s.State, "devices", ".kept")
	must(t, os.CopyFS(kept, os.DirFS(s.paths().Dir())))
	// What was left of the board when it was discarded before is not in the way.
	s.make(filepath.Join(s.State, "devices", ".trash-"+s.Serial.String(), "file"), "")
	must(t, s.Discard(t.Context()))
	if has, err := s.Exists(); has || err != nil || !slices.Equal(dirs(t, s.State), []string{".kept"}) {
		t.Errorf("it exists: %v, %v; %q", has, err, dirs(t, s.State))
	}
	must(t, s.MoveIn(kept))
	rec, err := record.Load(s.State, s.Serial)
	must(t, err)
	if w, err := s.Written(rec); err != nil || w.N != 1 || !slices.Equal(dirs(t, s.State), []string{"c0ffee01"}) {
		t.Errorf("slot %d, %v; %q", w.N, err, dirs(t, s.State))
	}
}

// TestAddSnapshot: a snapshot is there when all of it is on the disk, and what an error leaves
// is swept.
func TestAddSnapshot(t *testing.T) {
	s := newShelf(t)
	s.record(s.slot(1, "mine"))
	all := func() (n []int) {
		have, err := record.LoadSnapshots(s.State, s.Serial)
		must(t, err)
		for _, h := range have {
			n = append(n, h.N)
		}
		return n
	}
	add := func(fails error) error {
		n, err := s.NextSnapshot()
		must(t, err)
		snap := record.Snapshot{N: n, Made: when, Note: "a note", Base: s.base, Boot: "boot"}
		before := all()
		return s.AddSnapshot(t.Context(), &snap, func(to string) error {
			s.make(filepath.Join(to, "mine"), "the board's")
			snap.Bytes = 11
			return fails
		}, func() {
			if got := all(); fails != nil || !slices.Equal(got, before) {
				t.Errorf("copied (%v), it has %v", fails, got)
			}
		})
	}
	must(t, add(nil))
	if fails := errors.New("it fails"); !errors.Is(add(fails), fails) {
		t.Error("it does not fail")
	}
	if !s.has("snapshots/.new-2") || !slices.Equal(all(), []int{1}) {
		t.Errorf("one failed, and it has %v", all())
	}
	must(t, add(nil))
	got, dir, err := s.OpenSnapshot(3)
	if err != nil || got.Bytes != 11 || got.Note != "a note" || s.has("snapshots/.new-2") || !slices.Equal(all(), []int{1, 3}) {
		t.Errorf("%+v, %v of %v", got, err, all())
	}
	if b, err := os.ReadFile(filepath.Join(dir, "upper/mine")); err != nil || string(b) != "the board's" {
		t.Errorf("%q, %v", b, err)
	}
}
