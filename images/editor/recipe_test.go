package editor_test

import (
	"strings"
	"testing"

	"rubus/images/editor"
)

func TestParseRecipe(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"good":         {"from: lab@1\nsteps: [{run: ls}, {copy: {from: a, to: /b}}]\n", ""},
		"empty":        {"", "EOF"},
		"no steps":     {"from: lab\n", `needs "from"`},
		"no from":      {"steps: [{run: ls}]\n", `needs "from"`},
		"both":         {"from: lab\nsteps: [{run: ls, copy: {from: a, to: /b}}]\n", "step 1 needs one of"},
		"neither":      {"from: lab\nsteps: [{run: ls}, {}]\n", "step 2 needs one of"},
		"climbs":       {"from: lab\nsteps: [{copy: {from: ../a, to: /b}}]\n", "below the file's directory"},
		"absolute":     {"from: lab\nsteps: [{copy: {from: /etc/shadow, to: /b}}]\n", "below the file's directory"},
		"relative to":  {"from: lab\nsteps: [{copy: {from: a, to: b}}]\n", `begins with "/"`},
		"unknown word": {"from: lab\nstep: []\n", "field step not found"},
	} {
		_, err := editor.ParseRecipe(strings.NewReader(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add("from: lab@1\nsteps: [{run: ls}, {copy: {from: a, to: /b}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := editor.ParseRecipe(strings.NewReader(text)); err == nil && (r.From == "" || len(r.Steps) == 0) {
			t.Errorf("%+v", r)
		}
	})
}
