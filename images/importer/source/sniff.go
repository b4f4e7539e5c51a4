package source

import (
	"bytes"
	"strconv"
	"strings"

	"rubus/images/ext4"
)

// sniff says what begins with head: "tar", "disk", "gzip", "xz", "zstd", "zip", "" for
// nothing at all, or in words what can't be imported.
func sniff(head []byte) string {
	for _, m := range []struct{ magic, kind string }{
		{"\x1f\x8b", "gzip"},
		{"\xfd7zXZ\x00", "xz"},
		{"\x28\xb5\x2f\xfd", "zstd"},
		{"BZh", "a bzip2 file"},
		{"\x5d\x00\x00", "an lzma file"},
		{"\x04\x22\x4d\x18", "an lz4 file"},
		{"PK\x03\x04", "zip"},
		{"PK\x05\x06", "zip"}, // one without files
		{"7z\xbc\xaf\x27\x1c", "a 7z file"},
		{"hsqs", "a squashfs image"},
		{"QFI\xfb", "a qcow2 image"},
		{"!<arch>\n", "a Debian package or ar archive"},
		{"070701", "a cpio archive"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.kind
		}
	}
	switch {
	case len(head) == 0:
		return ""
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18":
		return "zstd" // a skippable frame comes first
	case isTarHeader(head):
		return "tar"
	case len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa, ext4.Is(head):
		return "disk"
	}
	return unknownKind
}

// isTarHeader checks the sum that every tar header carries: POSIX pax(1),
// "ustar Interchange Format", chksum: the sum of all bytes with the field itself as spaces.
// An archive without entries begins with zeros.
func isTarHeader(b []byte) bool {
	if len(b) < 512 {
		return false
	}
	const at, length = 148, 8
	var unsigned, signed int64
	for i, c := range b[:512] {
		if i >= at && i < at+length {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	field := strings.Trim(string(b[at:at+length]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	return err == nil && (want == unsigned || want == signed) || unsigned == length*' '
}

const unknownKind = "neither a tarball nor a disk image"
