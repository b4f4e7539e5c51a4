package carry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot/bootset"
	"rubus/boot/carry"
	"rubus/boot/identity"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/treediff"
	"rubus/images/upper"
	"rubus/overlay"
)

// store is an image "lab" whose versions have one layer each, in a directory of its own.
type store string

func (s store) LayerDir(digest string) string { return filepath.Join(string(s), digest) }

func (s store) Resolve(ref imageref.Ref) (images.Version, error) {
	if ref.Version == 0 {
		ref.Version = 2
	}
	return images.Version{Ref: ref, Boot: "boot", Layers: []images.Layer{{Digest: fmt.Sprint(ref.Version)}}}, nil
}

// bench is a board that wrote over lab@1.
type bench struct {
	*testing.T
	carry.Board
	rec  record.Record
	slot record.Slot
}

// newBench makes a board that wrote these files; lab@1 has etc/golden and etc/old, in lab@2
// the first is another and the second is not there.
func newBench(t *testing.T, files ...string) *bench {
	t.Helper()
	state := t.TempDir()
	serial, err := device.ParseSerial("c0ffee01")
	must(t, err)
	s := store(filepath.Join(state, "layers"))
	b := &bench{T: t, Board: carry.Board{
		Board:    writes.Board{State: state, Serial: serial, Layers: s},
		Versions: s, Now: time.Now,
	}}
	b.write("layers/1/etc/golden", "one")
	b.write("layers/1/etc/old", "old")
	b.write("layers/2/etc/golden", "two")
	b.write("layers/2/"+bootset.BootedUnit, "")
	one, err := s.Resolve(imageref.Ref{Name: "lab", Version: 1})
	must(t, err)
	b.slot = record.Slot{N: 1, State: record.SlotCurrent, Image: one.Ref, Boot: "boot", Export: record.NewExportID(), Made: time.Now(), Mounted: time.Now()}
	b.slot.Base, err = carry.BaseOf(s, one)
	must(t, err)
	_, err = b.Uppers().Create(b.slot.Base, 1, s.LayerDir("1"))
	must(t, err)
	for _, f := range files {
		b.writes(f)
	}
	b.rec = record.Record{Version: record.Version, Serial: serial, LastSlot: 1, Slots: []record.Slot{b.slot}}
	must(t, record.Save(state, &b.rec))
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) write(name, text string) {
	b.Helper()
	name = filepath.Join(b.State, name)
	must(b, os.MkdirAll(filepath.Dir(name), 0o755))
	must(b, os.WriteFile(name, []byte(text), 0o644))
}

// writes has the board write a file.
func (b *bench) writes(name string) {
	b.Helper()
	up, err := filepath.Rel(b.State, b.Uppers().Path(b.slot.UpperID()))
	must(b, err)
	b.write(filepath.Join(up, "upper", name), "the board's")
}

// files are those of an upper.
func (b *bench) files(id overlay.UpperID) (out []string) {
	b.Helper()
	dir := filepath.Join(b.Uppers().Path(id), "upper")
	must(b, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			out = append(out, rel)
		}
		return err
	}))
	return out
}

// uppers are all that are there.
func (b *bench) uppers() int {
	b.Helper()
	ids, err := b.Uppers().List()
	must(b, err)
	return len(ids)
}

func to(conflicts record.Conflicts) record.Move {
	return record.Move{To: imageref.Ref{Name: "lab"}, Conflicts: conflicts}
}

// TestOver: what the board wrote is in the upper of a slot over the new version, which no
// record names yet: a crash undoes it. The former one is as it was.
func TestOver(t *testing.T) {
	for name, c := range map[string]struct {
		wrote     []string
		given     string
		conflicts record.Conflicts
		want      []string // nil: refused
		out       carry.Outcome
	}{
		"its own files":       {wrote: []string{"mine", "more"}, want: []string{"mine", "more"}, out: carry.Outcome{Kept: 2}},
		"a conflict":          {wrote: []string{"mine", "etc/golden"}, out: carry.Outcome{Kept: 1, Clashed: 1}},
		"it is the board's":   {wrote: []string{"etc/golden"}, conflicts: record.ConflictsBoard, want: []string{"etc/golden"}, out: carry.Outcome{Clashed: 1}},
		"it is the image's":   {wrote: []string{"mine", "etc/golden"}, conflicts: record.ConflictsImage, want: []string{"mine"}, out: carry.Outcome{Kept: 1, Clashed: 1}},
		"given by the server": {wrote: []string{"mine", "etc/golden"}, given: "/etc/golden", want: []string{"mine"}, out: carry.Outcome{Kept: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.wrote...)
			if c.given != "" {
				b.gives(c.given)
			}
			rec, m := b.rec.Clone(), to(c.conflicts)
			aim, err := b.Aim(rec, m.To)
			must(t, err)
			m.From = b.slot.Image
			looked, lookErr := b.Look(t.Context(), aim, m)
			made, err := b.Over(t.Context(), &rec, &m, nil)
			s, out := made.Slot, made.Outcome
			if looked != out {
				t.Errorf("looked at it was %+v, made it is %+v", looked, out)
			}
			c.out.From, c.out.To, c.out.Reports = b.slot.Image, imageref.Ref{Name: "lab"}, c.want != nil
			if out != c.out {
				t.Errorf("%+v, want %+v", out, c.out)
			}
			if c.want == nil {
				if !errors.Is(err, carry.ErrConflict) || !errors.Is(lookErr, carry.ErrConflict) || b.uppers() != 1 {
					t.Errorf("%v, looked at %v; %d uppers", err, lookErr, b.uppers())
				}
				return
			}
			must(t, errors.Join(err, lookErr))
			if s.N != 2 || rec.LastSlot != 2 || len(rec.Slots) != 1 || s.Image.String() != "lab@2" || s.Export == b.slot.Export || made.Former.N != 1 || m.Written.IsZero() || !m.Reports {
				t.Errorf("slot %+v, record %+v, move %+v", s, rec, m)
			}
			if got := b.files(s.UpperID()); !slices.Equal(got, c.want) {
				t.Errorf("it has %q, want %q", got, c.want)
			}
			if got := b.files(b.slot.UpperID()); len(got) != len(c.wrote) {
				t.Errorf("what the board had has %q", got)
			}
			if done, err := b.Finish(t.Context(), s.UpperID()); !done || err != nil || b.uppers() != 1 {
				t.Errorf("after a crash: %v, %v, %d uppers", done, err, b.uppers())
			}
		})
	}
}

// gives notes that the board was given a file as it is.
func (b *bench) gives(path string) {
	b.Helper()
	root := b.TempDir()
	must(b, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	st := identity.Store{Dir: identity.Dir(record.PathsOf(b.State, b.Serial).Dir())}
	res, err := identity.Seed{Store: st, Wish: &identity.Wish{Files: []identity.File{{Path: path, Content: "the board's", Mode: 0o644}}}, Root: root, Upper: root}.Do()
	must(b, err)
	if len(res.Problems) > 0 {
		b.Fatal(res.Problems)
	}
}

// TestOverChanged: a board that writes meanwhile is not moved, and nothing is left of it.
func TestOverChanged(t *testing.T) {
	b := newBench(t, "mine")
	b.Built = func() { b.writes("late") }
	rec, m := b.rec.Clone(), to("")
	if _, err := b.Over(t.Context(), &rec, &m, nil); !errors.Is(err, carry.ErrChanged) || b.uppers() != 1 {
		t.Errorf("%v, %d uppers", err, b.uppers())
	}
	b.Built = nil
	if _, err := b.Over(t.Context(), &rec, &m, nil); err != nil || b.uppers() != 2 || rec.LastSlot != 3 {
		t.Errorf("again: %v, %d uppers, last slot %d", err, b.uppers(), rec.LastSlot)
	}
}

// TestOverRefused: nothing is made where there is nothing to move, or no room.
func TestOverRefused(t *testing.T) {
	for name, c := range map[string]struct {
		wrote   []string
		to      int
		reserve int64
		want    error
	}{
		"nothing written": {nil, 0, 0, writes.ErrNothing},
		"it is there":     {[]string{"mine"}, 1, 0, record.ErrOnIt},
		"no room":         {[]string{"mine"}, 0, math.MaxInt64, writes.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.wrote...)
			b.Reserve = c.reserve
			rec, m := b.rec.Clone(), to("")
			m.To.Version = c.to
			if _, err := b.Over(t.Context(), &rec, &m, nil); !errors.Is(err, c.want) || b.uppers() != 1 {
				t.Errorf("%v, want %v; %d uppers", err, c.want, b.uppers())
			}
		})
	}
	b := newBench(t, "mine")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec, m := b.rec.Clone(), to("")
	if _, err := b.Over(ctx, &rec, &m, nil); !errors.Is(err, context.Canceled) || b.uppers() != 1 {
		t.Errorf("given up: %v; %d uppers", err, b.uppers())
	}
}

// TestPart: of what a board changed there is what lies at or below the paths to keep.
func TestPart(t *testing.T) {
	b := newBench(t, "mine", "etc/golden", "etc/more/one", "etcetera")
	v, err := b.Versions.Resolve(imageref.Ref{Name: "lab"})
	must(t, err)
	base, err := carry.BaseOf(b.Layers, v)
	must(t, err)
	rec := b.rec.Clone()
	s := record.Slot{Image: v.Ref, Base: base, Boot: v.Boot}
	must(t, b.Part(t.Context(), b.slot, base, []string{"etc", "gone"}, func(d upper.Delta) error {
		if n := carry.Bytes(d.Changes); n != 2*int64(len("the board's")) {
			t.Errorf("they are %d bytes: %v", n, paths(d.Changes))
		}
		return b.Build(t.Context(), &rec, &s, func(ctx context.Context, to string) error {
			_, err := upper.Build(ctx, to, d, nil)
			return err
		})
	}))
	if got := b.files(s.UpperID()); !slices.Equal(got, []string{"etc/golden", "etc/more/one"}) {
		t.Errorf("it has %q", got)
	}
}

func paths(changes []treediff.Change) string {
	var out []string
	for _, c := range changes {
		out = append(out, c.Path)
	}
	return strings.Join(out, " ")
}

// TestCopy makes an upper like another, numbered after all that lie there; one that fails is
// not there.
func TestCopy(t *testing.T) {
	b := newBench(t, "mine", "etc/golden")
	_, err := b.Uppers().Create(b.slot.Base, 7, b.Layers.LayerDir("1")) // that no record names
	must(t, err)
	rec, s := b.rec.Clone(), b.slot
	must(t, b.Build(t.Context(), &rec, &s, b.Copy(s.Base, b.Uppers().Path(b.slot.UpperID()), nil)))
	if got := b.files(s.UpperID()); s.N != 8 || !slices.Equal(got, []string{"etc/golden", "mine"}) {
		t.Errorf("slot %d has %q", s.N, got)
	}
	fails := errors.New("it fails")
	b.Built = func() { t.Error("built") }
	if err := b.Build(t.Context(), &rec, &s, func(context.Context, string) error { return fails }); !errors.Is(err, fails) || b.uppers() != 3 {
		t.Errorf("%v; %d uppers", err, b.uppers())
	}
}
