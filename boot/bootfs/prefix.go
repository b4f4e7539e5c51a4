package bootfs

import (
	"strings"

	"rubus/config/device"
)

// SplitPrefix takes off the front of a TFTP name what firmware puts there: a
// serial (8 lower-case hex digits), a MAC ("dc-a6-32-01-36-c2/", TFTP_PREFIX=2),
// or one of the site's own strings (TFTP_PREFIX_STR). What comes before "//" or
// after it is the same as before "/". serial is zero unless it was there; mac
// likewise.
func SplitPrefix(path string, own []string) (serial device.Serial, mac device.MAC, name string) {
	path = strings.TrimLeft(path, "/")
	for _, p := range own {
		if rest, ok := strings.CutPrefix(path, strings.TrimLeft(p, "/")); ok && rest != "" {
			return serial, mac, strings.TrimLeft(rest, "/")
		}
	}
	first, rest, more := strings.Cut(path, "/")
	rest = strings.TrimLeft(rest, "/")
	if !more {
		return serial, mac, path
	}
	if s, err := device.ParseSerial(first); err == nil && s.String() == first {
		return s, mac, rest
	}
	if m, err := device.ParseMAC(first); err == nil && strings.Count(first, "-") == 5 && strings.ToLower(first) == first {
		return serial, m, rest
	}
	return serial, mac, path
}
