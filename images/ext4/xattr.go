package ext4

import (
	"encoding/binary"
	"maps"
)

// Where attributes begin and how names are shortened.
const (
	xattrMagic  = 0xea020000
	xattrUser   = 1
	xattrACL    = 2
	xattrACLDef = 3
	xattrSystem = 7
	maxXattr    = 64 << 10
)

// xattrPrefix gives what stands for a name's number; "" for one that isn't for us.
func xattrPrefix(n byte) string {
	switch n {
	case xattrUser:
		return "user."
	case xattrACL:
		return "system.posix_acl_access"
	case xattrACLDef:
		return "system.posix_acl_default"
	case 4:
		return "trusted."
	case 6:
		return "security."
	}
	return ""
}

// Xattrs reads the extended attributes of an inode, with the names and values
// that getxattr(2) would give.
func (fs *FS) Xattrs(i *Inode) (map[string]string, error) {
	all, err := fs.xattrs(i)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	out := make(map[string]string, len(all))
	for k, v := range all {
		prefix := xattrPrefix(k.prefix)
		if prefix == "" {
			continue
		}
		if k.prefix == xattrACL || k.prefix == xattrACLDef {
			if v, err = convertACL(v); err != nil {
				return nil, corrupt("inode %d has a damaged access control list", i.Number)
			}
		}
		out[prefix+k.name] = v
	}
	return out, nil
}

type xattrKey struct {
	prefix byte
	name   string
}

// xattrs reads what lies in the inode and in the block of attributes.
func (fs *FS) xattrs(i *Inode) (map[xattrKey]string, error) {
	out := make(map[xattrKey]string)
	if start := minInode + i.extra(); i.extra() > 0 && start+4 <= len(i.raw) &&
		binary.LittleEndian.Uint32(i.raw[start:]) == xattrMagic {
		area := i.raw[start+4:]
		if err := fs.parseXattrs(out, i, area, area); err != nil {
			return nil, err
		}
	}
	if i.acl == 0 {
		return out, nil
	}
	b := make([]byte, fs.block)
	if err := fs.readBlock(b, i.acl); err != nil {
		return nil, err
	}
	const head = 32
	le := binary.LittleEndian
	if le.Uint32(b) != xattrMagic || le.Uint32(b[8:]) != 1 {
		return nil, corrupt("inode %d has damaged attributes", i.Number)
	}
	if fs.csum {
		sum := crc(fs.seed, le.AppendUint64(nil, i.acl))
		sum = crc(crc(crc(sum, b[:16]), make([]byte, 4)), b[20:])
		if sum != le.Uint32(b[16:]) {
			return nil, corrupt("the checksum of the attributes of inode %d is wrong", i.Number)
		}
	}
	more := make(map[xattrKey]string)
	if err := fs.parseXattrs(more, i, b[head:], b); err != nil {
		return nil, err
	}
	maps.Copy(more, out) // those in the inode count
	return more, nil
}

// parseXattrs decodes entries: u8 length and u8 number of the name, u16 where the value
// lies in values, u32 inode that holds it instead, u32 its size, u32 hash, the name, filled up to four bytes.
func (fs *FS) parseXattrs(out map[xattrKey]string, i *Inode, b, values []byte) error {
	const head = 16
	le := binary.LittleEndian
	bad := func() error { return corrupt("inode %d has damaged attributes", i.Number) }
	for {
		// Four zeros end the list; so does the end of the room.
		if len(b) < 4 || le.Uint32(b) == 0 {
			return nil
		}
		nameLen := int(b[0])
		if len(b) < head || len(b) < head+nameLen {
			return bad()
		}
		at, inum, size := int(le.Uint16(b[2:])), le.Uint32(b[4:]), le.Uint32(b[8:])
		key := xattrKey{b[1], string(b[head:][:nameLen])}
		switch {
		case size > maxXattr:
			return bad()
		case inum != 0:
			v, err := fs.xattrInode(inum, int64(size))
			if err != nil {
				return err
			}
			out[key] = v
		case size == 0:
			out[key] = ""
		case at+int(size) > len(values):
			return bad()
		default:
			out[key] = string(values[at:][:size])
		}
		b = b[min(len(b), (head+nameLen+3)&^3):]
	}
}

// xattrInode reads a value that is so big that an inode holds it.
func (fs *FS) xattrInode(n uint32, size int64) (string, error) {
	i, err := fs.inode(n)
	if err != nil {
		return "", err
	}
	if i.flags&flagEAInode == 0 || i.Size != size || i.flags&flagInline != 0 {
		return "", corrupt("inode %d holds no attribute of %d bytes", n, size)
	}
	c, err := fs.Content(i)
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	if _, err := c.ReadAt(b, 0); err != nil {
		return "", err
	}
	return string(b), nil
}

// inlineData is the content that lies in the inode: its room for block numbers,
// then the attribute "system.data".
func (fs *FS) inlineData(i *Inode) ([]byte, error) {
	all, err := fs.xattrs(i)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), i.raw[blockAreaAt:][:blockAreaSize]...)
	return append(b, all[xattrKey{xattrSystem, "data"}]...), nil
}

// convertACL makes the form of getxattr(2) of that on the disk, which leaves out
// the numbers of entries that have none.
func convertACL(disk string) (string, error) {
	const tagUser, tagGroup, none = 0x02, 0x08, 0xffffffff
	le := binary.LittleEndian
	b := []byte(disk)
	if len(b) < 4 || le.Uint32(b) != 1 {
		return "", ErrCorrupt
	}
	out := le.AppendUint32(nil, 2)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return "", ErrCorrupt
		}
		tag, id := le.Uint16(b), uint32(none)
		out = append(out, b[:4]...)
		b = b[4:]
		if tag == tagUser || tag == tagGroup {
			if len(b) < 4 {
				return "", ErrCorrupt
			}
			id = le.Uint32(b)
			b = b[4:]
		}
		out = le.AppendUint32(out, id)
	}
	return string(out), nil
}
