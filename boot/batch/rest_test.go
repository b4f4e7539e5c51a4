package batch

import (
	"fmt"
	"strings"
	"testing"

	"rubus/config/device"
	"rubus/images/imageref"
)

// Of batches that stopped it is known what is left to do, and which of them it is about.
func TestUnfinished(t *testing.T) {
	all := serials(t, 4)
	to := imageref.Ref{Name: "lab", Version: 2}
	// made is a batch whose members have these states; a dropped and a recalled one is so
	// because the batch stopped.
	made := func(n int, state State, states ...string) Batch {
		b := Batch{N: n, To: to, State: state}
		for i, s := range states {
			m := Member{Serial: all[i], State: s}
			if s == Dropped || s == undone {
				m.Why = WhyStopped
			}
			if s == "reset" {
				m.State, m.Why = Dropped, "it was reset, restored or moved otherwise"
			}
			if s != "" {
				b.Members = append(b.Members, m)
			}
		}
		return b
	}
	for _, c := range []struct {
		name    string
		batches []Batch
		on      int // so many boards are on the version
		want    string
	}{
		{"none", nil, 0, ""},
		{"it goes on", []Batch{made(1, Canaries, trial, Waiting), made(2, Released, good, pending)}, 0, ""},
		{"all is done", []Batch{made(1, Done, good, moved, Skipped)}, 2, ""},
		{"stopped", []Batch{made(1, Stopped, back, good, Dropped, undone)}, 0, "1 rest 3 4"},
		{"stopped with the last of it", []Batch{made(1, Stopped, good, back)}, 1, ""},
		{"what was reset meanwhile is not asked for", []Batch{made(1, Stopped, back, "reset", Dropped)}, 0, "1 rest 3"},
		{"one could not be moved", []Batch{made(1, Done, good, failed)}, 1, "1 rest 2"},
		{"moved otherwise", []Batch{made(1, Stopped, "", Dropped, Dropped)}, 2, "1 rest 3"},
		{"ordered again, and that stopped, too", []Batch{made(1, Stopped, back, Dropped, Dropped), made(2, Stopped, "", good, Dropped)}, 0, "2 rest 3"},
		{"ordered again, but one", []Batch{made(1, Stopped, back, Dropped, Dropped), made(2, Done, "", good)}, 0, "1 rest 3"},
		{"undone", []Batch{made(1, Undone, undone, undoing, Dropped)}, 4, ""},
		{"undone, and killed meanwhile", []Batch{made(1, Undone, undone, good, moved, trial)}, 2, "1 left 2 4"},
		{"undone half, then moved again", []Batch{made(1, Undone, good, good), made(2, Done, good)}, 2, "1 left 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			on := func(s device.Serial, ref imageref.Ref) bool { return ref == to && int(s.Uint32()) <= c.on }
			var got []string
			for _, u := range UnfinishedOf(c.batches, on) {
				line := fmt.Sprint(u.N)
				for word, boards := range map[string][]device.Serial{"rest": u.Rest, "left": u.Left} {
					for i, s := range boards {
						if i == 0 {
							line += " " + word
						}
						line += fmt.Sprintf(" %d", s.Uint32())
					}
				}
				got = append(got, line)
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%q, want %q", s, c.want)
			}
		})
	}
}
