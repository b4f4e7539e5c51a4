package writes

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/overlay"
)

var when = time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)

// layers has each layer in a directory of its digest's name.
type layers string

func (l layers) LayerDir(digest string) string {
	return filepath.Join(string(l), strings.TrimPrefix(digest, "sha256:"))
}

// shelf is a board's files in a state directory of the test's own, over a base of one layer.
type shelf struct {
	*testing.T
	Board
	base overlay.Base
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	state := t.TempDir()
	s := &shelf{T: t, Board: Board{State: state, Serial: serial(t, "c0ffee01"), Layers: layers(filepath.Join(state, "layers"))}}
	dirs := LayerDirs(s.Layers, []string{"sha256:one"})
	s.make(filepath.Join(dirs[0], "etc/hostname"), "golden")
	var err error
	s.base, err = overlay.BaseOf([]string{"sha256:one"}, dirs)
	must(t, err)
	return s
}

// slot makes the upper of slot n, which has these files.
func (s *shelf) slot(n int, files ...string) record.Slot {
	s.Helper()
	_, err := s.Uppers().Create(s.base, n, s.Layers.LayerDir("sha256:one"))
	must(s, err)
	slot := s.named(n)
	for _, f := range files {
		s.make(s.upper(slot, f), "the board's "+f)
	}
	return slot
}

// named is slot n, which may have no upper.
func (s *shelf) named(n int) record.Slot {
	return record.Slot{N: n, State: record.SlotParked, Image: imageref.Ref{Name: "lab", Version: 1}, Base: s.base, Boot: "boot", Export: record.NewExportID(), Made: when}
}

func (s *shelf) upper(slot record.Slot, name string) string {
	return filepath.Join(s.Uppers().Path(slot.UpperID()), "upper", name)
}

func (s *shelf) make(name, text string) {
	s.Helper()
	must(s, os.MkdirAll(filepath.Dir(name), 0o755))
	must(s, os.WriteFile(name, []byte(text), 0o644))
}

// record writes the board's device.json.
func (s *shelf) record(slots ...record.Slot) record.Record {
	s.Helper()
	r := record.Record{Version: record.Version, Serial: s.Serial, Slots: slots, LastSlot: 9}
	must(s, record.Save(s.State, &r))
	return r
}

func (s *shelf) has(name string) bool {
	_, err := os.Lstat(filepath.Join(s.paths().Dir(), name))
	return err == nil
}

func TestWritten(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*shelf) []record.Slot
		want int // the slot; 0: none
	}{
		"no slots":              {func(*shelf) []record.Slot { return nil }, 0},
		"an upper without more": {func(s *shelf) []record.Slot { return []record.Slot{s.slot(1)} }, 0},
		"never made":            {func(s *shelf) []record.Slot { return []record.Slot{s.named(1)} }, 0},
		"written to":            {func(s *shelf) []record.Slot { return []record.Slot{s.slot(1, "etc/mine")} }, 1},
		"given by the server": {func(s *shelf) []record.Slot {
			a := s.slot(1, "etc/hostname")
			must(s, MarkSeeded(s.Uppers().Path(a.UpperID())))
			return []record.Slot{a}
		}, 0},
		"given, then changed": {func(s *shelf) []record.Slot {
			a := s.slot(1, "etc/hostname")
			must(s, MarkSeeded(s.Uppers().Path(a.UpperID())))
			s.make(s.upper(a, "etc/hostname"), "another name")
			return []record.Slot{a}
		}, 1},
		"given, then a file more": {func(s *shelf) []record.Slot {
			a := s.slot(1, "etc/hostname")
			must(s, MarkSeeded(s.Uppers().Path(a.UpperID())))
			s.make(s.upper(a, "etc/more"), "")
			return []record.Slot{a}
		}, 1},
		"given, then one less": {func(s *shelf) []record.Slot {
			a := s.slot(1, "etc/hostname", "etc/motd")
			must(s, MarkSeeded(s.Uppers().Path(a.UpperID())))
			must(s, os.Remove(s.upper(a, "etc/motd")))
			return []record.Slot{a}
		}, 1},
		"the second of two": {func(s *shelf) []record.Slot { return []record.Slot{s.slot(2), s.slot(1, "mine")} }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			slots := c.make(s)
			got, err := s.Written(s.record(slots...))
			if c.want == 0 && !errors.Is(err, ErrNothing) || c.want != 0 && (err != nil || got.N != c.want) {
				t.Errorf("slot %d, %v; want %d", got.N, err, c.want)
			}
			// A command without a daemon sees the same.
			for _, slot := range slots {
				places, err := Places(s.State, s.Layers, s.Serial)
				must(t, err)
				i := slices.IndexFunc(places, func(p Place) bool { return p.N == slot.N })
				empty, err := places[i].IsEmpty()
				must(t, err)
				if empty == (slot.N == c.want) {
					t.Errorf("the place of slot %d is empty: %v", slot.N, empty)
				}
			}
		})
	}
}

// An upper that was there and is gone is no empty one: what the board wrote is lost.
func TestIsEmptyOfLost(t *testing.T) {
	s := newShelf(t)
	slot := s.named(1)
	slot.Mounted = when
	s.record(slot)
	if empty, err := s.IsEmpty(slot); err == nil {
		t.Errorf("a lost upper is empty: %v", empty)
	}
	places, err := Places(s.State, s.Layers, s.Serial)
	must(t, err)
	if empty, err := places[0].IsEmpty(); err == nil {
		t.Errorf("a lost place is empty: %v", empty)
	}
}

// What a crash left of an upper that no slot names ends in one of three ways.
func TestFinish(t *testing.T) {
	for name, c := range map[string]struct {
		leave     func(*shelf, record.Slot)
		done      bool
		snapshots int
		stays     bool
	}{
		"nobody's":             {func(*shelf, record.Slot) {}, false, 0, true},
		"new, in no record":    {func(s *shelf, a record.Slot) { must(s, Unrecorded(s.upper(a, ""))) }, true, 0, false},
		"marked as a snapshot": {func(s *shelf, a record.Slot) { s.mark(a) }, true, 1, false},
		"both: what was marked is kept": {func(s *shelf, a record.Slot) {
			must(s, Unrecorded(s.upper(a, "")))
			s.mark(a)
		}, true, 1, false},
		"in a record since": {func(s *shelf, a record.Slot) {
			must(s, Unrecorded(s.upper(a, "")))
			s.Recorded(a.UpperID())
		}, false, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			a := s.slot(1, "etc/mine")
			c.leave(s, a)
			done, err := s.Finish(t.Context(), a.UpperID())
			if err != nil || done != c.done {
				t.Errorf("done: %v, %v", done, err)
			}
			ids, err := s.Uppers().List()
			must(t, err)
			kept, err := record.LoadSnapshots(s.State, s.Serial)
			must(t, err)
			if (len(ids) == 1) != c.stays || len(kept) != c.snapshots {
				t.Errorf("left: uppers %v, snapshots %+v", ids, kept)
			}
			for _, k := range kept {
				text, err := os.ReadFile(filepath.Join(s.paths().Snapshot(k.N), "upper/etc/mine"))
				if string(text) != "the board's etc/mine" || k.Note != "aside" || !k.SetAside || k.Files == 0 {
					t.Errorf("the snapshot %+v has %q: %v", k, text, err)
				}
			}
		})
	}
}

func (s *shelf) mark(a record.Slot) int {
	s.Helper()
	n, err := s.Mark(s.Context(), a, "aside", when, when.Add(time.Hour))
	must(s, err)
	return n
}

// A snapshot's number is given once, also when its files are gone and whatever the counter says.
func TestSnapshotNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		counter string
		want    int
	}{
		"the first":          {"", 2}, // beside the one that is there
		"after others":       {"7\n", 8},
		"behind what is":     {"0\n", 2},
		"no number":          {"many\n", 2},
		"below nothing":      {"-7\n", 2},
		"more than there is": {fmt.Sprint(math.MaxInt), 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			a := s.slot(1, "mine")
			if n := s.mark(a); n != 1 {
				t.Fatalf("the first is %d", n)
			}
			must(t, s.KeepMarked(a.UpperID()))
			if c.counter != "" {
				s.make(filepath.Join(s.paths().Snapshots(), "last"), c.counter)
			}
			n, err := s.NextSnapshot()
			if err != nil || n != c.want {
				t.Errorf("%d, %v; want %d", n, err, c.want)
			}
			must(t, s.RemoveSnapshot(1))
			if again, err := s.NextSnapshot(); err != nil || again != c.want+1 {
				t.Errorf("then %d, %v", again, err)
			}
			if err := s.RemoveSnapshot(1); !errors.Is(err, record.ErrNotFound) {
				t.Errorf("removing it again: %v", err)
			}
			must(t, s.SweepSnapshots(t.Context()))
			if left, err := filepath.Glob(filepath.Join(s.paths().Snapshots(), ".trash*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A snapshot that was set aside needs the very layers it was written over.
func TestOpenSnapshot(t *testing.T) {
	s := newShelf(t)
	a := s.slot(1, "mine")
	n := s.mark(a)
	must(t, s.KeepMarked(a.UpperID()))
	if snap, dir, err := s.OpenSnapshot(n); err != nil || snap.Base.ID != s.base.ID || dir != s.paths().Snapshot(n) {
		t.Errorf("%+v in %q: %v", snap, dir, err)
	}
	place, err := SnapshotPlace(s.State, s.Layers, s.Serial, n)
	must(t, err)
	if empty, err := place.IsEmpty(); empty || err != nil || place.UpperDir != s.paths().Snapshot(n) {
		t.Errorf("the place %+v is empty: %v, %v", place, empty, err)
	}
	layer := s.Layers.LayerDir("sha256:one")
	must(t, os.Rename(layer, layer+".old"))
	s.make(filepath.Join(layer, "etc/hostname"), "golden")
	if _, _, err := s.OpenSnapshot(n); err == nil {
		t.Error("it opens over another directory of the same content")
	}
	if _, _, err := s.OpenSnapshot(n + 1); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	must(t, os.RemoveAll(layer))
	var missing *overlay.MissingLayersError
	if _, _, err := s.OpenSnapshot(n); !errors.As(err, &missing) || missing.Digests[0] != "sha256:one" || errors.Is(err, record.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("over a layer that is gone: %v", err)
	}
}

// Measure has the slots first, one without an upper too, then what no slot names.
func TestMeasure(t *testing.T) {
	s := newShelf(t)
	a := s.slot(1, "etc/mine")
	s.slot(2, "etc/stray")
	got, err := s.Measure(t.Context(), []record.Slot{s.named(3), a})
	must(t, err)
	if len(got) != 3 || got[0].Bytes != 0 || got[1].Upper != string(a.UpperID()) || got[1].Bytes < 10 || got[2].State != "unlisted" || got[2].Bytes < 10 {
		t.Errorf("%+v", got)
	}
	kept, err := KeptOfAll(t.Context(), s.State)
	if err != nil || len(kept) != 1 || kept[0].Roots != 2 || kept[0].RootBytes == 0 || kept[0].Snapshots != 0 {
		t.Errorf("%+v, %v", kept, err)
	}
	rec := record.Record{Serial: s.Serial}
	if err := s.CountUppers(&rec); err != nil || rec.LastSlot != 2 {
		t.Errorf("the last slot is %d, %v", rec.LastSlot, err)
	}
}

func TestFits(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		reserve, bytes int64
		ok             bool
	}{
		"nothing is reserved":        {0, math.MaxInt64, true},
		"there is room":              {1, 1, true},
		"more than there is":         {1, math.MaxInt64 / 2, false},
		"the reserve is gone itself": {math.MaxInt64 / 2, 0, false},
	} {
		if err := Fits(dir, c.reserve, c.bytes, false); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Fits(filepath.Join(dir, "none"), 1, 1, false); err == nil || errors.Is(err, ErrNoSpace) {
		t.Errorf("no directory: %v", err)
	}
}

func serial(t testing.TB, s string) device.Serial {
	t.Helper()
	out, err := device.ParseSerial(s)
	must(t, err)
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
