package bootfs

import (
	"bytes"
	"fmt"
	"strings"
)

// Config makes a board's config.txt: its own file byte for byte, then the
// device's lines in a section of their own, for all models. It is never empty:
// firmware may take an empty file for a missing one, and a Pi 5 that misses
// config.txt stops using its prefix. A line with control characters is left out and
// reported; one that the firmware would cut is reported.
func Config(own []byte, lines []string) (text []byte, warnings []string) {
	if len(lines) == 0 && len(own) > 0 {
		return own, nil
	}
	var b bytes.Buffer
	b.Write(own)
	if len(own) > 0 && own[len(own)-1] != '\n' {
		b.WriteByte('\n')
	}
	b.WriteString("\n# The lines below come from the boot server.\n[all]\n")
	for _, line := range lines {
		if strings.ContainsFunc(line, isControl) {
			warnings = append(warnings, fmt.Sprintf("line %q has control characters and was left out", line))
			continue
		}
		if len(line) > maxLine {
			warnings = append(warnings, fmt.Sprintf("line %q is longer than %d characters: the firmware ignores the rest", line, maxLine))
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.Bytes(), warnings
}
