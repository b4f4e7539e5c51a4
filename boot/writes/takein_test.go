package writes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rubus/boot/record"
)

// A board takes what it has not, and keeps what it has.
func TestTakeFiles(t *testing.T) {
	s := newShelf(t)
	s.record()
	s.make(filepath.Join(s.paths().Dir(), "kept"), "here")
	from := t.TempDir()
	for _, name := range []string{"kept", "identity/machine-id", "uppers/x", "snapshots/1/x", "boot/set", ".new-1", record.File} {
		s.make(filepath.Join(from, name), "there")
	}
	kept, err := s.TakeFiles(from)
	if err != nil || !slices.Equal(kept, []string{"kept"}) {
		t.Errorf("kept %v, %v", kept, err)
	}
	if text, _ := os.ReadFile(filepath.Join(s.paths().Dir(), "kept")); string(text) != "here" {
		t.Errorf("what the board had is %q", text)
	}
	if !s.has("identity/machine-id") {
		t.Error("what it had not did not come")
	}
	for _, name := range []string{"uppers", "snapshots", "boot", ".new-1"} {
		if s.has(name) {
			t.Errorf("%q came, which comes otherwise or not at all", name)
		}
	}
}

// A snapshot comes once, however often a backup is brought in.
func TestTakeSnapshotIn(t *testing.T) {
	s := newShelf(t)
	s.record()
	bring := func(note string) bool {
		t.Helper()
		dir := t.TempDir()
		from := filepath.Join(dir, "snapshots", "9")
		s.make(filepath.Join(from, "upper/mine"), note)
		must(t, record.WriteSnapshot(from, record.Snapshot{N: 9, Made: when, Note: note, Base: s.base}))
		all, err := SnapshotsIn(dir)
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("in the backup: %+v", all)
		}
		taken, err := s.TakeSnapshotIn(from, all[0])
		must(t, err)
		return taken
	}
	if !bring("one") || bring("one") || !bring("two") {
		t.Error("one snapshot came twice, or another not at all")
	}
	have, err := record.LoadSnapshots(s.State, s.Serial)
	must(t, err)
	if len(have) != 2 || have[0].N != 1 || have[1].N != 2 {
		t.Errorf("the board has %+v", have)
	}
	if none, err := SnapshotsIn(t.TempDir()); err != nil || len(none) != 0 {
		t.Errorf("a backup without snapshots has %+v, %v", none, err)
	}
}

// A replacement that a crash cut short is finished, and nothing else is moved.
func TestFinishReplaces(t *testing.T) {
	const old, now, third = "c0ffee01", "c0ffee02", "c0ffee03"
	for name, c := range map[string]struct {
		has  map[string]string // device.json by directory
		want []string
	}{
		"cut short":   {map[string]string{old: `{"serial":"c0ffee02","replaces":"c0ffee01"}`}, []string{now}},
		"done before": {map[string]string{now: `{"serial":"c0ffee02","replaces":"c0ffee01"}`}, []string{now}},
		"its own":     {map[string]string{old: `{"serial":"c0ffee01"}`}, []string{old}},
		"the other has its own": {map[string]string{
			old: `{"serial":"c0ffee02","replaces":"c0ffee01"}`, now: `{"serial":"c0ffee02"}`,
		}, []string{old, now}},
		"it says another's name": {map[string]string{old: `{"serial":"c0ffee02","replaces":"c0ffee03"}`}, []string{old}},
		"no JSON":                {map[string]string{old: `{"serial":`}, []string{old}},
		"out of the directory":   {map[string]string{old: `{"serial":"../../x","replaces":"c0ffee01"}`}, []string{old}},
		"no serial":              {map[string]string{old: `{"serial":"","replaces":"c0ffee01"}`}, []string{old}},
		"one of two": {map[string]string{
			old: `{"serial":"c0ffee02","replaces":"c0ffee01"}`, third: `{"serial":"c0ffee03","replaces":"c0ffee01"}`,
		}, []string{now, third}},
		"two of two": {map[string]string{
			old: `{"serial":"c0ffee02","replaces":"c0ffee01"}`, third: `{"serial":"c0ffee02","replaces":"c0ffee03"}`,
		}, []string{now, third}},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			for dir, text := range c.has {
				p := filepath.Join(state, "devices", dir)
				must(t, os.MkdirAll(p, 0o700))
				must(t, os.WriteFile(filepath.Join(p, record.File), []byte(text), 0o600))
			}
			for range 2 { // done again it does nothing
				must(t, FinishReplaces(state))
				if got := dirs(t, state); !slices.Equal(got, c.want) {
					t.Errorf("left: %v, want %v", got, c.want)
				}
			}
		})
	}
}

func dirs(t testing.TB, state string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(state, "devices"))
	must(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Whatever a device.json says, its directory goes nowhere but to a board that it names, and
// which has none.
func FuzzFinishReplaces(f *testing.F) {
	for _, seed := range []string{
		`{"serial":"c0ffee02","replaces":"c0ffee01"}`, `{"serial":"c0ffee01"}`, `{"serial":"../x","replaces":"c0ffee01"}`,
		`{"serial":null,"replaces":"c0ffee01"}`, `{"serial":"C0FFEE02","replaces":"c0ffee01"}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		state := t.TempDir()
		old := filepath.Join(state, "devices", "c0ffee01")
		must(t, os.MkdirAll(old, 0o700))
		must(t, os.WriteFile(filepath.Join(old, record.File), text, 0o600))
		must(t, FinishReplaces(state))
		got := dirs(t, state)
		if len(got) != 1 {
			t.Fatalf("left: %v", got)
		}
		if got[0] == "c0ffee01" {
			return
		}
		var said struct{ Serial string }
		must(t, json.Unmarshal(text, &said))
		if s := serial(t, got[0]); serial(t, said.Serial) != s || s.String() != got[0] {
			t.Errorf("%q went to %s", text, got[0])
		}
	})
}
