package entrycmd

import (
	"strings"
	"testing"
)

func TestLineDiff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after string
		line          int
		want          string
	}{
		"a line more at the end": {"a\nb\n", "a\nb\nc\n", 3, "+c"},
		"one more of the same":   {"a\na\n", "a\na\na\n", 3, "+a"},
		"a line less":            {"a\nb\nc\n", "a\nc\n", 2, "-b"},
		"a line changed":         {"a\nb\nc\n", "a\nB\nc\n", 2, "-b|+B"},
		"what stays between":     {"a\nb\nc\nd\n", "A\nb\nc\nD\n", 1, "-a|+A| b| c|-d|+D"},
		"out of nothing":         {"", "a\n", 1, "+a"},
		"to nothing":             {"a\n", "", 1, "-a"},
		"line ends of Windows":   {"a\r\nb\r\n", "a\nB\n", 2, "-b|+B"},
		"too much to compare":    {strings.Repeat("x\n", 501) + "y", "y\nz", 1, strings.Repeat("-x|", 501) + "-y|+y|+z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, diff := lineDiff([]byte(c.before), []byte(c.after))
			if got := strings.Join(diff, "|"); line != c.line || got != c.want {
				t.Errorf("line %d: %.60q, want line %d: %.60q", line, got, c.line, c.want)
			}
		})
	}
}
