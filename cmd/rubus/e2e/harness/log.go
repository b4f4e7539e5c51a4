package harness

import (
	"fmt"
	"os"
	"strings"
)

// Log is a file that a program writes what it says to.
type Log string

// Text is the log from an offset on; nothing while the file is not there.
func (l Log) Text(from int) string {
	b, _ := os.ReadFile(string(l))
	return string(b[min(from, len(b)):])
}

// End is where the log ends now.
func (l Log) End() int { return len(l.Text(0)) }

// Said is an error while no line of the log from an offset on has all words.
func (l Log) Said(from int, words ...string) error {
	for line := range strings.Lines(l.Text(from)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("the log has no line with %q; its last are:\n%s", words, LastLines(l.Text(from), 5))
}

// LastLines are the last n lines of a text.
func LastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
