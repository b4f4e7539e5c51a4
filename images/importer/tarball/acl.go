package tarball

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rubus/images/importer/bounds"
)

// The tags of POSIX ACL entries as the kernel stores them
// (include/uapi/linux/posix_acl.h).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclNoID    = 0xffffffff
	aclVersion = 2 // POSIX_ACL_XATTR_VERSION
	maxACL     = 4096
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// parseACL turns the text of an access control list (acl(5), "user::rwx,user:1000:r-x,...",
// entries apart by commas or line feeds, a fourth field with the number as star
// writes it) into the bytes of the system.posix_acl_ attributes. It gives "" for one that has only the
// three entries of the mode.
func parseACL(text string) (string, error) {
	var list []aclEntry
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		part, _, _ = strings.Cut(part, "#") // a comment on the effective rights
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		e, err := parseACLEntry(part)
		if err != nil {
			return "", err
		}
		if list = append(list, e); len(list) > maxACL {
			return "", fmt.Errorf("it has more than %d entries", maxACL)
		}
	}
	if len(list) <= 3 {
		return "", nil
	}
	slices.SortStableFunc(list, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	out := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range list {
		out = binary.LittleEndian.AppendUint16(out, e.tag)
		out = binary.LittleEndian.AppendUint16(out, e.perm)
		out = binary.LittleEndian.AppendUint32(out, e.id)
	}
	return string(out), nil
}

func parseACLEntry(s string) (aclEntry, error) {
	f := strings.Split(s, ":")
	bad := func(why string) (aclEntry, error) { return aclEntry{}, fmt.Errorf("%q: %s", bounds.Short(s), why) }
	if len(f) == 2 { // "mask:rwx", "other:rwx" in short
		f = []string{f[0], "", f[1]}
	}
	if len(f) < 3 {
		return bad("no entry of a list")
	}
	e := aclEntry{id: aclNoID}
	named := f[1] != ""
	switch f[0] {
	case "user", "u":
		e.tag = aclUserObj
		if named {
			e.tag = aclUser
		}
	case "group", "g":
		e.tag = aclGroupObj
		if named {
			e.tag = aclGroup
		}
	case "mask", "m":
		e.tag = aclMask
	case "other", "o":
		e.tag = aclOther
	default:
		return bad("no kind of entry")
	}
	if len(f[2]) > 3 {
		return bad("no rights")
	}
	for _, c := range f[2] {
		switch {
		case c == 'r':
			e.perm |= 4
		case c == 'w':
			e.perm |= 2
		case c == 'x':
			e.perm |= 1
		case c != '-':
			return bad("no rights")
		}
	}
	if e.tag != aclUser && e.tag != aclGroup {
		return e, nil
	}
	number := f[1]
	if len(f) > 3 {
		number = f[3]
	}
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return bad("it names a user or group: make the archive with \"tar --numeric-owner\"")
	}
	e.id = uint32(id)
	return e, nil
}
