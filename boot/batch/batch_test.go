package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rubus/config/device"
	"rubus/images/imageref"
)

func serials(t testing.TB, n int) (out []device.Serial) {
	t.Helper()
	for i := range n {
		s, err := device.ParseSerial(fmt.Sprintf("%08x", i+1))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

var when = time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)

func make4(t testing.TB, first int) (Batch, []device.Serial) {
	t.Helper()
	all := serials(t, 4)
	return New(1, imageref.Ref{Name: "lab", Version: 2}, "board", first, all, when), all
}

// say is what the boards' moves are, by their place in the batch; "": none.
func say(all []device.Serial, states ...string) func(device.Serial) (Move, bool) {
	return func(s device.Serial) (Move, bool) {
		for i, st := range states {
			if all[i] == s {
				if st == "hangs" {
					return Move{State: trial, Overdue: true, Why: "it hangs"}, true
				}
				return Move{State: st, Why: map[bool]string{true: "broken"}[st == back || st == failed]}, st != ""
			}
		}
		return Move{}, false
	}
}

// line is a batch in a line: its state, its members' and whose turn it is.
func line(b *Batch) string {
	var states []string
	for _, m := range b.Members {
		states = append(states, m.State)
	}
	text := fmt.Sprintf("%s: %s", b.State, strings.Join(states, " "))
	for _, s := range b.Turn() {
		text += fmt.Sprintf(" +%d", s.Uint32())
	}
	for _, s := range b.Recall() {
		text += fmt.Sprintf(" -%d", s.Uint32())
	}
	return text
}

func TestAdvance(t *testing.T) {
	for _, c := range []struct {
		name  string
		first int
		steps [][]string // the states of the boards' moves
		want  []string
	}{
		{
			"all at once", 0,
			[][]string{{}, {pending, trial, pending, pending}, {good, good, moved, failed}, {good, good, moved, failed}},
			[]string{
				"released: waiting waiting waiting waiting +1 +2 +3 +4", "released: pending trial pending pending",
				"done: good good moved failed", "done: good good moved failed",
			},
		}, {
			"the rest after the canaries", 2,
			[][]string{{}, {pending, trial}, {good, trial}, {good, good}, {good, good, pending, pending}, {good, good, good, good}},
			[]string{
				"canaries: waiting waiting waiting waiting +1 +2", "canaries: pending trial waiting waiting", "canaries: good trial waiting waiting",
				"released: good good waiting waiting +3 +4", "released: good good pending pending", "done: good good good good",
			},
		}, {
			"a canary goes back", 2,
			[][]string{{good, trial}, {good, back}},
			[]string{"canaries: good trial waiting waiting", "stopped: good back dropped dropped"},
		}, {
			"a canary hangs, and is good after all", 2,
			[][]string{{good, "hangs"}, {good, good}},
			[]string{"stopped: good trial dropped dropped", "stopped: good good dropped dropped"},
		}, {
			"one of the rest hangs", 1,
			[][]string{{good}, {good, pending, "hangs", trial}},
			[]string{"released: good waiting waiting waiting +2 +3 +4", "stopped: good pending trial trial -2"},
		}, {
			"a canary cannot be moved", 1,
			[][]string{{failed}},
			[]string{"stopped: failed dropped dropped dropped"},
		}, {
			"a canary has nothing to move", 2,
			[][]string{{Skipped, trial}, {Skipped, good}},
			[]string{"canaries: skipped trial waiting waiting", "released: skipped good waiting waiting +3 +4"},
		}, {
			"no canary has anything to move", 1,
			[][]string{{Skipped}},
			[]string{"stopped: skipped dropped dropped dropped"},
		}, {
			"a canary is reset", 1,
			[][]string{{trial}, {""}},
			[]string{"canaries: trial waiting waiting waiting", "stopped: dropped dropped dropped dropped"},
		}, {
			"one of the rest goes back", 1,
			[][]string{{good}, {good, pending, back, trial}, {good, undone, back, good}},
			[]string{
				"released: good waiting waiting waiting +2 +3 +4", "stopped: good pending back trial -2",
				"stopped: good undone back good",
			},
		}, {
			"nobody can tell whether the canaries are good", 1,
			[][]string{{moved}, {moved}},
			[]string{"canaries: moved waiting waiting waiting", "canaries: moved waiting waiting waiting"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, all := make4(t, c.first)
			for i, states := range c.steps {
				b.Advance(say(all, states...))
				if got := line(&b); got != c.want[i] {
					t.Errorf("step %d: %s, want %s", i, got, c.want[i])
				}
				if b.Advance(say(all, states...)) {
					t.Errorf("step %d, done again: %s", i, line(&b))
				}
			}
		})
	}
}

func TestReleaseAndUndo(t *testing.T) {
	b, all := make4(t, 1)
	b.Advance(say(all, moved))
	if !b.Release() || b.Release() {
		t.Error("the rest is released not once")
	}
	if got := line(&b); got != "released: moved waiting waiting waiting +2 +3 +4" {
		t.Error(got)
	}
	b.Advance(say(all, moved, pending, trial))
	for range 2 {
		b.Undo()
		if got := line(&b); got != "undone: moved pending trial dropped -2" || len(b.Moved()) != 3 || b.IsOver() {
			t.Errorf("undone: %s, to be taken back %v", got, b.Moved())
		}
	}
	b.Advance(say(all, undoing, undone, undone))
	if got := line(&b); got != "undone: undoing undone undone dropped" || b.IsOver() {
		t.Error(got)
	}
	b.Advance(say(all, undone, undone, undone))
	if !b.IsOver() {
		t.Errorf("not over: %s", line(&b))
	}
}

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "batches")}
	if all, err := s.Load(); err != nil || all != nil {
		t.Errorf("of nothing: %v, %v", all, err)
	}
	a, _ := make4(t, 2)
	b := a.Clone()
	b.N, b.State, b.Why = 12, Stopped, "it broke"
	for _, x := range []Batch{b, a, a} {
		if err := s.Save(x); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"7.json": "{", "08.json": "{}", "x.json": "{}", "3.json": `{"n": 4}`} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Load()
	if err == nil || !strings.Contains(err.Error(), "batch 7") || !strings.Contains(err.Error(), "batch 3: it is that of batch 4") || strings.Contains(err.Error(), "8") {
		t.Errorf("broken ones: %v", err)
	}
	if d := cmp.Diff([]Batch{a, b}, all, cmp.Comparer(func(x, y device.Serial) bool { return x == y })); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
	// Nobody gets a number whose file cannot be read.
	if err := os.WriteFile(filepath.Join(s.Dir, "13.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Next(); err != nil || n != 14 {
		t.Errorf("the next is %d, %v", n, err)
	}
	if n, err := (Store{Dir: filepath.Join(s.Dir, "none")}).Next(); err != nil || n != 1 {
		t.Errorf("the first is %d, %v", n, err)
	}
	// A board that is named twice is one member, and can be read back.
	c := New(20, a.To, "", 2, []device.Serial{a.Members[0].Serial, a.Members[1].Serial, a.Members[0].Serial}, a.Made)
	if len(c.Members) != 2 || c.State != Released || c.First != 0 {
		t.Errorf("named twice: %+v", c)
	}
	if err := s.Remove(12); err != nil {
		t.Error(err)
	}
	if all, _ = s.Load(); len(all) != 1 {
		t.Errorf("after a removal: %v", all)
	}
}

func TestDecode(t *testing.T) {
	good, _ := make4(t, 2)
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"torn":            {`"members"`, `{`, "invalid"},
		"another's":       {`"n":1`, `"n":2`, "batch 2"},
		"an unknown word": {`"canaries"`, `"geese"`, `unknown state "geese"`},
		"more canaries":   {`"first":2`, `"first":5`, "5 of its 4"},
		"no version":      {`"lab@2"`, `"lab"`, "to no version"},
		"a board twice":   {`"00000002"`, `"00000001"`, "member 2"},
	} {
		bad := strings.Replace(string(text), c.old, c.new, 1)
		if _, err := decode([]byte(bad), 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := make4(f, 2)
	text, err := json.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"n":1,"to":"lab@2","state":"done","members":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := decode(text, 1)
		if err != nil {
			return
		}
		once, err := json.Marshal(b)
		if err != nil {
			return // a time that JSON has no word for
		}
		again, err := decode(once, 1)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: written as\n%s\nand then as\n%s", err, once, twice)
		}
		again.Advance(func(device.Serial) (Move, bool) { return Move{}, false })
		again.Turn()
		again.Recall()
	})
}

// A member tells what its board's move tells, and what is new of it alone is a change.
func TestFollow(t *testing.T) {
	b, all := make4(t, 0)
	moves := say(all, trial)
	b.Advance(moves)
	told := Move{State: trial, Why: "it boots", Overdue: true, Snapshot: 7, Reports: true}
	tell := func(s device.Serial) (Move, bool) {
		if s == all[0] {
			return told, true
		}
		return moves(s)
	}
	if !b.Advance(tell) || b.Advance(tell) {
		t.Error("what is new of a move is no change, or is one twice")
	}
	want := Member{Serial: all[0], State: trial, Why: told.Why, Overdue: true, Snapshot: 7, Reports: true}
	if b.Members[0] != want {
		t.Errorf("the member is %+v, not %+v", b.Members[0], want)
	}
}
