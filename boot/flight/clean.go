package flight

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds each text of an event, in bytes.
const maxText = 300

// Clean makes a text from the network fit for a record and a terminal: one
// line without control characters, valid UTF-8, at most max bytes.
func Clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		for !utf8.ValidString(s) && len(s) > 0 && limit-len(s) < utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// clean bounds all texts of an event.
func (e *Event) clean() {
	for _, s := range []*string{&e.Stage, &e.Bootloader, &e.BootServer, &e.Name, &e.Boot, &e.Problem, &e.Text} {
		*s = Clean(*s, maxText)
	}
}
