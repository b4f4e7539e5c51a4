package ext4

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// Dirent is one name in a directory.
type Dirent struct {
	Name  string
	Inode uint32
}

// ReadDir reads all names of a directory but "." and "..", in the order of
// the file system. Names are checked: none is empty or holds "/" or NUL.
func (fs *FS) ReadDir(i *Inode) ([]Dirent, error) {
	if i.Type() != unix.S_IFDIR {
		return nil, corrupt("inode %d is no directory", i.Number)
	}
	if i.flags&flagInline != 0 {
		return fs.inlineDir(i)
	}
	c, err := fs.Content(i)
	if err != nil {
		return nil, err
	}
	if i.Size%fs.block != 0 {
		return nil, corrupt("directory %d has %d bytes", i.Number, i.Size)
	}
	var out []Dirent
	b := make([]byte, fs.block)
	for off := c.NextData(0); off < i.Size; off = c.NextData(off + fs.block) {
		if _, err := c.ReadAt(b, off); err != nil {
			return nil, err
		}
		if err := fs.checkDirBlock(i, b); err != nil {
			return nil, err
		}
		if out, err = fs.appendDirents(out, i, b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkDirBlock compares the checksum at the end of a block of names: it looks
// like a name of nobody. Blocks of the index (htree) have none there; those are made
// to look like empty ones.
func (fs *FS) checkDirBlock(i *Inode, b []byte) error {
	const tail = 12
	le := binary.LittleEndian
	t := b[len(b)-tail:]
	if !fs.csum || le.Uint32(t) != 0 || le.Uint16(t[4:]) != tail || t[6] != 0 || t[7] != 0xde {
		return nil
	}
	if crc(i.seed, b[:len(b)-tail]) != le.Uint32(t[8:]) {
		return corrupt("the checksum of directory %d is wrong", i.Number)
	}
	return nil
}

// appendDirents decodes entries: u32 inode (0 for none), u16 length of the entry,
// u8 length of the name, u8 type, the name.
func (fs *FS) appendDirents(out []Dirent, i *Inode, b []byte) ([]Dirent, error) {
	const head = 8
	le := binary.LittleEndian
	for len(b) >= head {
		length := int(le.Uint16(b[4:]))
		// A block of 64 KiB doesn't fit its own length.
		if fs.block == maxBlockSize && (length == 0 || length == maxBlockSize-1) {
			length = len(b)
		}
		nameLen := int(b[6])
		if fs.incompat&incompatFiletype == 0 {
			nameLen = int(le.Uint16(b[6:]))
		}
		n := le.Uint32(b)
		if length < head || length > len(b) || n != 0 && nameLen > length-head {
			return nil, corrupt("directory %d has a damaged entry", i.Number)
		}
		if n != 0 {
			name := string(b[head:][:nameLen])
			switch {
			case name == "." || name == "..":
			case name == "" || len(name) > unix.NAME_MAX || strings.ContainsAny(name, "/\x00"):
				return nil, corrupt("directory %d has a name %q", i.Number, name)
			default:
				out = append(out, Dirent{name, n})
			}
		}
		b = b[length:]
	}
	return out, nil
}

// inlineDir reads a directory that lies in its inode: the number of its parent,
// then entries, which go on in an attribute.
func (fs *FS) inlineDir(i *Inode) ([]Dirent, error) {
	b, err := fs.inlineData(i)
	if err != nil {
		return nil, err
	}
	out, err := fs.appendDirents(nil, i, b[4:blockAreaSize])
	if err != nil {
		return nil, err
	}
	return fs.appendDirents(out, i, b[blockAreaSize:])
}
