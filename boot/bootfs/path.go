package bootfs

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxName is the longest path a request may name; FAT ends at 260 characters.
const maxName = 255

// ErrBadName says that a name can't be one of a file below the boot directory.
var ErrBadName = errors.New("bad file name")

// Clean brings a name as the firmware sends it into the form "a/b/c": without
// empty and "." elements, so "//" and a leading slash do no harm (a Pi 5
// asks for "serial//cmdline.txt"). Names with "..", a backslash, control
// characters or more than 255 bytes are refused with ErrBadName.
func Clean(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrBadName, len(name), maxName)
	}
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrBadName, name)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || isControl(r) }) {
		return "", fmt.Errorf("%w: %q has a backslash or a control character", ErrBadName, name)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("%w: %q leads upwards", ErrBadName, name)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "", fmt.Errorf("%w: %q names no file", ErrBadName, name)
	}
	return strings.Join(parts, "/"), nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// updatesFirmware says whether the firmware changes the board's EEPROM, or
// starts a rescue system, when it finds a file of this name. A file left over
// in a golden image for another model would brick the board.
func updatesFirmware(name string) bool {
	switch strings.ToLower(name) {
	case "pieeprom.sig", "pieeprom.upd", "pieeprom.bin", "vl805.sig", "vl805.bin",
		"recovery.bin", "recovery.elf", "recover4.elf", "recovery7.img", "recovery8.img":
		return true
	}
	return false
}
