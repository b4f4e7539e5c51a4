package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// Root is the number of the root directory's inode.
const Root = rootNumber

// Flags of inodes.
const (
	flagCompressed = 0x4
	flagEncrypted  = 0x800
	flagExtents    = 0x80000
	flagEAInode    = 0x200000
	flagInline     = 0x10000000
)

// maxSize bounds a file's size in bytes; the kernel's own limit is lower.
const maxSize = 1 << 44

// blockArea is the inode's own room for extents, block numbers, or a few bytes.
const (
	blockAreaAt   = 0x28
	blockAreaSize = 60
)

// Inode is what the file system knows of a file.
type Inode struct {
	Number uint32
	// Mode is that of stat(2), the type included.
	Mode     uint32
	UID, GID uint32
	Links    uint32
	Size     int64
	// Sec and Nsec are the time of the last change of content.
	Sec, Nsec int64
	// Major and Minor number a device.
	Major, Minor uint32

	flags uint32
	acl   uint64 // the block of more extended attributes, or 0
	raw   []byte
	seed  uint32 // what the checksums of its blocks begin with
}

// Type is the S_IFMT part of the mode.
func (i *Inode) Type() uint32 { return i.Mode & unix.S_IFMT }

// Inode reads an inode. One that is not in use is ErrCorrupt.
func (fs *FS) Inode(n uint32) (*Inode, error) {
	i, err := fs.inode(n)
	if err != nil {
		return nil, err
	}
	if i.Links == 0 || i.Type() == 0 {
		return nil, corrupt("inode %d has a name and is not in use", n)
	}
	return i, nil
}

func (fs *FS) inode(n uint32) (*Inode, error) {
	if n == 0 || n > fs.inodes {
		return nil, corrupt("inode %d of %d", n, fs.inodes)
	}
	group, index := (n-1)/fs.perGroup, (n-1)%fs.perGroup
	if int(group) >= len(fs.tables) {
		return nil, corrupt("inode %d is in no group", n)
	}
	at := fs.tables[group]
	if at >= fs.blocks {
		return nil, corrupt("the inode table of group %d lies in block %d of %d", group, at, fs.blocks)
	}
	raw := make([]byte, fs.inodeSize)
	if _, err := fs.r.ReadAt(raw, int64(at)*fs.block+int64(index)*fs.inodeSize); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, corrupt("inode %d lies behind the end", n)
		}
		return nil, fmt.Errorf("reading inode %d: %w", n, err)
	}
	return fs.parseInode(n, raw)
}

func (fs *FS) parseInode(n uint32, raw []byte) (*Inode, error) {
	le := binary.LittleEndian
	u16 := func(at int) uint32 { return uint32(le.Uint16(raw[at:])) }
	u32 := func(at int) uint32 { return le.Uint32(raw[at:]) }
	i := &Inode{
		Number: n, raw: raw, Mode: u16(0), Links: u16(0x1a), flags: u32(0x20),
		UID: u16(2) | u16(0x78)<<16, GID: u16(0x18) | u16(0x7a)<<16,
		Sec: int64(int32(u32(0x10))),
		acl: uint64(u32(0x68)) | uint64(u16(0x76))<<32,
	}
	size := uint64(u32(4))
	if i.Type() == unix.S_IFREG || fs.incompat&incompatLargedir != 0 {
		size |= uint64(u32(0x6c)) << 32
	}
	if size > maxSize {
		return nil, corrupt("inode %d has a size of %d bytes", n, size)
	}
	i.Size = int64(size)
	if err := fs.checkInode(i); err != nil {
		return nil, err
	}
	if i.extra() >= 0x8c-minInode {
		// Two bits more of the seconds, then the nanoseconds.
		more := u32(0x88)
		i.Sec += int64(more&3) << 32
		if i.Nsec = int64(more >> 2); i.Nsec > 999999999 {
			return nil, corrupt("inode %d has a time of %d nanoseconds", n, i.Nsec)
		}
	}
	if t := i.Type(); t == unix.S_IFCHR || t == unix.S_IFBLK {
		// The old form has eight bits each; the new one is used for the rest.
		if old := u32(blockAreaAt); old != 0 {
			i.Major, i.Minor = old>>8&0xff, old&0xff
		} else {
			v := u32(blockAreaAt + 4)
			i.Major, i.Minor = v>>8&0xfff, v&0xff|v>>12&0xfff00
		}
	}
	if i.UID == math.MaxUint32 || i.GID == math.MaxUint32 {
		return nil, corrupt("inode %d has the owner %d:%d", n, i.UID, i.GID)
	}
	return i, nil
}

// extra is how many bytes behind the first 128 hold fields.
func (i *Inode) extra() int {
	if len(i.raw) <= minInode+2 {
		return 0
	}
	n := int(binary.LittleEndian.Uint16(i.raw[minInode:]))
	if n > len(i.raw)-minInode {
		return 0
	}
	return n
}

// checkInode compares the inode's checksum.
func (fs *FS) checkInode(i *Inode) error {
	if !fs.csum {
		return nil
	}
	le := binary.LittleEndian
	i.seed = crc32le(crc32le(fs.seed, i.Number), le.Uint32(i.raw[0x64:]))
	zero := []byte{0, 0}
	sum := crc(crc(crc(i.seed, i.raw[:0x7c]), zero), i.raw[0x7e:minInode])
	want, mask := uint32(le.Uint16(i.raw[0x7c:])), uint32(0xffff)
	if rest := i.raw[minInode:]; len(rest) > 0 {
		if len(rest) >= 4 && le.Uint16(rest) >= 4 {
			sum = crc(crc(crc(sum, rest[:2]), zero), rest[4:])
			want, mask = want|uint32(le.Uint16(rest[2:]))<<16, math.MaxUint32
		} else {
			sum = crc(sum, rest)
		}
	}
	if sum&mask != want {
		return corrupt("the checksum of inode %d is wrong", i.Number)
	}
	return nil
}

// Readlink reads where a symbolic link points.
func (fs *FS) Readlink(i *Inode) (string, error) {
	if i.Size == 0 || i.Size >= unix.PathMax {
		return "", corrupt("inode %d is a symbolic link of %d bytes", i.Number, i.Size)
	}
	if i.flags&(flagExtents|flagInline) == 0 && i.Size < blockAreaSize {
		return string(i.raw[blockAreaAt:][:i.Size]), nil
	}
	c, err := fs.Content(i)
	if err != nil {
		return "", err
	}
	b := make([]byte, i.Size)
	if _, err := c.ReadAt(b, 0); err != nil {
		return "", err
	}
	return string(b), nil
}
