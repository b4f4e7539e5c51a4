package eeprom

import (
	"fmt"
	"strings"
)

// BootOrder is the key of the order in which a board tries to boot: a
// hexadecimal number whose digits are read from the right. 1 is the SD card, 2
// the network, 4 USB, 6 NVMe, f starts again.
const BootOrder = "BOOT_ORDER"

// DefaultBootOrder tries the SD card, then the network, again and again.
const DefaultBootOrder = 0xf21

// With gives a configuration text in which a key has a value for all boards.
// Other lines stay as they are; lines for some boards only ([0x1234abcd] and
// the like) stay, too, and the value stands behind them, so that it counts.
func With(text, key, value string) string {
	var out strings.Builder
	all := true
	last := "[all]" // lines before the first filter are for all boards
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		word := strings.TrimSpace(line)
		if strings.HasPrefix(word, "[") {
			all, last = word == "[all]", word
		}
		name, _, ok := strings.Cut(word, "=")
		if all && ok && strings.TrimSpace(name) == key {
			continue
		}
		out.WriteString(line + "\n")
	}
	if last != "[all]" {
		out.WriteString("[all]\n")
	}
	fmt.Fprintf(&out, "%s=%s\n", key, value)
	return out.String()
}
