package fakepi

import (
	"fmt"
	"strings"
)

// Prefix is what a bootloader puts before the names of files (TFTP_PREFIX and
// TFTP_PREFIX_STR of its configuration). The zero value is the board's serial.
type Prefix struct {
	kind prefixKind
	text string
}

type prefixKind int

const (
	prefixSerial prefixKind = iota
	prefixText
	prefixMAC
)

// maxPrefix is the longest TFTP_PREFIX_STR.
const maxPrefix = 32

// ParsePrefix reads "serial", "mac", "none", or a text that ends with a slash.
func ParsePrefix(s string) (Prefix, error) {
	switch {
	case s == "" || s == "serial":
		return Prefix{}, nil
	case s == "mac":
		return Prefix{kind: prefixMAC}, nil
	case s == "none":
		return Prefix{kind: prefixText}, nil
	case !strings.HasSuffix(s, "/"):
		return Prefix{}, fmt.Errorf("prefix %q: want serial, mac, none, or a text that ends with a slash", s)
	case len(s) > maxPrefix:
		return Prefix{}, fmt.Errorf("prefix %q has %d characters, a bootloader holds %d", s, len(s), maxPrefix)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return Prefix{}, fmt.Errorf("prefix %q has characters other than ASCII letters, digits and signs", s)
	}
	return Prefix{prefixText, s}, nil
}

// of is a board's prefix as it stands before names.
func (p Prefix) of(b Board) string {
	switch p.kind {
	case prefixText:
		return p.text
	case prefixMAC:
		return strings.ReplaceAll(b.MAC.String(), ":", "-") + "/"
	}
	return b.Serial.String() + "/"
}
