package dpkg

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// Stanzas splits a status file into the text of each package, by Key. What has no
// name is left out.
func Stanzas(status []byte) map[string]string {
	out := map[string]string{}
	for text := range strings.SplitSeq(string(bytes.ReplaceAll(status, []byte("\r\n"), []byte("\n"))), "\n\n") {
		text = strings.Trim(text, "\n")
		db, err := Parse(strings.NewReader(text))
		if err != nil {
			continue
		}
		for k := range db {
			out[k] = text
		}
	}
	return out
}

// Join makes a status file of stanzas, sorted as dpkg writes it.
func Join(stanzas map[string]string) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(stanzas)) {
		b.WriteString(stanzas[k])
		b.WriteString("\n\n")
	}
	return b.Bytes()
}
