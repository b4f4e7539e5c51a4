package treesum

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The types of entries, as the listing writes them.
const (
	Dir      = 'd'
	File     = 'f'
	Symlink  = 'l'
	Char     = 'c'
	Block    = 'b'
	Fifo     = 'p'
	Socket   = 's'
	Hardlink = 'h'
)

// Entry is one name of a tree.
type Entry struct {
	// Path is relative to the tree's root and clean; the root's is "".
	Path string
	// Type is one of the constants above.
	Type byte
	// Mode is the 12 permission bits.
	Mode     uint32
	UID, GID uint32
	// Sec and Nsec are the time of the last change of content.
	Sec, Nsec int64
	// Size and Sum describe a file's content.
	Size int64
	Sum  Sum
	// Major and Minor number a device.
	Major, Minor uint32
	// Target is where a symbolic link points, or the Path of the entry that a
	// hard link is another name of.
	Target string
	// Xattrs are the counted extended attributes by name.
	Xattrs map[string]string
}

// Counted says whether an extended attribute belongs to a tree: the owner's own
// ones, access control lists, file capabilities and the administrator's. Labels
// that the security modules of the machine at hand put on every file (SELinux,
// Smack, IMA) don't, nor what a file system shows of itself.
func Counted(name string) bool {
	switch {
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return true
	}
	return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// AppendText appends the entry's line without its line feed.
func (e *Entry) AppendText(b []byte) ([]byte, error) {
	b = append(b, e.Type, ' ')
	if e.Type == Hardlink {
		return appendEscaped(append(appendPath(b, e.Path), ' '), e.Target), nil
	}
	b = appendPadded(b, uint64(e.Mode), 8, 4)
	b = strconv.AppendUint(append(b, ' '), uint64(e.UID), 10)
	b = strconv.AppendUint(append(b, ' '), uint64(e.GID), 10)
	b = strconv.AppendInt(append(b, ' '), e.Sec, 10)
	b = appendPadded(append(b, '.'), uint64(e.Nsec), 10, 9)
	b = append(b, ' ')
	switch e.Type {
	case File:
		b = append(strconv.AppendInt(b, e.Size, 10), ' ')
		b = append(hex.AppendEncode(b, e.Sum[:]), ' ')
	case Char, Block:
		b = append(strconv.AppendUint(b, uint64(e.Major), 10), ':')
		b = append(strconv.AppendUint(b, uint64(e.Minor), 10), ' ')
	}
	b = appendPath(b, e.Path)
	if e.Type == Symlink {
		b = appendEscaped(append(b, ' '), e.Target)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		b = append(appendEscaped(append(b, ' '), name), '=')
		b = hex.AppendEncode(b, []byte(e.Xattrs[name]))
	}
	return b, nil
}

func appendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '.')
	}
	return appendEscaped(b, path)
}

func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func appendPadded(b []byte, v uint64, base, width int) []byte {
	var tmp [24]byte
	s := strconv.AppendUint(tmp[:0], v, base)
	for range width - len(s) {
		b = append(b, '0')
	}
	return append(b, s...)
}
