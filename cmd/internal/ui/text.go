package ui

import (
	"fmt"
	"strings"
)

// TimeForm is how tables show times: the reader's own, to the minute.
const TimeForm = "2006-01-02 15:04"

// Count writes a number with its noun: "1 file", "2 files".
func Count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Words is "a", "a and b", "a, b and c".
func Words(w []string) string {
	if len(w) < 2 {
		return strings.Join(w, "")
	}
	return strings.Join(w[:len(w)-1], ", ") + " and " + w[len(w)-1]
}

// Dash is s, or the "-" that a table has where there is nothing.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Visible makes a text that a board or a person chose safe to print in one line:
// it may hold anything.
func Visible(s string) string { return strings.Map(Printable, s) }

// Printable is r, or a blank where r would move the cursor or do worse.
func Printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return ' '
	}
	return r
}
