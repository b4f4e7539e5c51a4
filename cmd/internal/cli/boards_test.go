package cli

import (
	"strings"
	"testing"

	"rubus/cmd/internal/control"
	"rubus/images/imageref"
)

// What a rebase came to is said in words, and the status is silent of those that are over and well.
func TestMoveText(t *testing.T) {
	ref := func(n int) imageref.Ref { return imageref.Ref{Name: "lab", Version: n} }
	for state, c := range map[string]struct {
		move control.Move
		want string
		news bool
	}{
		"pending": {control.Move{}, "it moves to lab@4 when it boots next", true},
		"trial":   {control.Move{Failures: 2}, "it boots lab@4, which was not good yet; it had lab@3; 2 boots failed", true},
		"good":    {control.Move{Snapshot: 5}, "it moved from lab@3 to lab@4, where its boot was good (snapshot 5)", false},
		"moved":   {control.Move{}, "it moved from lab@3 to lab@4, which does not report its boots", false},
		"back":    {control.Move{Why: "it broke", Snapshot: 6}, "it went back from lab@4 to lab@3: it broke (snapshot 6)", true},
		"failed":  {control.Move{Why: "no space"}, "it was not moved from lab@3 to lab@4: no space", true},
		"undoing": {control.Move{}, "it goes back from lab@4 to lab@3 when it boots next", true},
		"undone":  {control.Move{}, "its rebase from lab@3 to lab@4 was undone", false},
		"asleep":  {control.Move{}, `its rebase to lab@4 is "asleep"`, true}, // of a later daemon
	} {
		m := c.move
		m.State, m.From, m.To = state, ref(3), ref(4)
		if got := MoveText(&m); got != c.want {
			t.Errorf("%s: %q, want %q", state, got, c.want)
		}
		if news := strings.Contains(strings.Join(Remarks(control.Board{Move: &m}), "\n"), c.want); news != c.news {
			t.Errorf("%s: in the status %v", state, news)
		}
	}
	if MoveText(nil) != "" || len(Remarks(control.Board{})) > 0 {
		t.Error("a board without a rebase has news of one")
	}
}
