package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// ErrCorrupt is wrapped by errors about what can't be so on a sound file system.
var ErrCorrupt = errors.New("the ext4 file system is damaged")

// ErrUnsupported is wrapped by errors about what this package doesn't read.
var ErrUnsupported = errors.New("the ext4 file system can't be read")

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
}

func unsupported(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, a...))
}

// Where the superblock lies, how long it is, and the number it carries.
const (
	superAt    = 1024
	superSize  = 1024
	superMagic = 0xef53
)

// Incompatible features: whoever doesn't know one must not read.
const (
	incompatCompression = 0x1
	incompatFiletype    = 0x2
	incompatRecover     = 0x4
	incompatJournalDev  = 0x8
	incompatMetaBG      = 0x10
	incompatExtents     = 0x40
	incompat64bit       = 0x80
	incompatMMP         = 0x100
	incompatFlexBG      = 0x200
	incompatEAInode     = 0x400
	incompatDirdata     = 0x1000
	incompatCsumSeed    = 0x2000
	incompatLargedir    = 0x4000
	incompatInlineData  = 0x8000
	incompatEncrypt     = 0x10000
	incompatCasefold    = 0x20000

	incompatKnown = incompatFiletype | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP | incompatFlexBG |
		incompatEAInode | incompatCsumSeed | incompatLargedir | incompatInlineData | incompatEncrypt | incompatCasefold

	compatSparseSuper2   = 0x200
	roSparseSuper        = 0x1
	roMetadataCsum       = 0x400
	roSharedBlocks       = 0x4000
	maxBlockSize         = 64 << 10
	minInode, rootNumber = 128, 2
)

// FS is an open file system. Its methods may be called from several goroutines.
type FS struct {
	r    io.ReaderAt
	size int64 // bytes of it that r has

	block          int64 // bytes in a block
	blocks         uint64
	inodes         uint32
	perGroup       uint32
	inodeSize      int64
	firstBlock     uint32
	blocksPerGroup uint32
	descSize       int64
	incompat       uint32
	ro, compat     uint32
	firstMetaBG    uint32
	backups        [2]uint32 // of sparse_super2
	csum           bool
	seed           uint32
	label          string
	uuid           [16]byte
	tables         []uint64 // the inode table of each group
	used           int64    // bytes in use
	left           atomic.Int64
}

// Is says whether head, the first 2 KiB of something, begin an ext2, 3 or 4.
func Is(head []byte) bool {
	return len(head) >= superAt+0x3a && binary.LittleEndian.Uint16(head[superAt+0x38:]) == superMagic
}

// Open reads the superblock and the group descriptors of the file system that r
// holds in its first size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	sb := make([]byte, superSize)
	if _, err := r.ReadAt(sb, superAt); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, corrupt("it ends in its superblock")
		}
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	fs := &FS{r: r, size: size}
	if err := fs.parseSuper(sb); err != nil {
		return nil, err
	}
	if err := fs.readGroups(); err != nil {
		return nil, err
	}
	// Metadata that is looked at twice must not count against a full one.
	fs.left.Store(size + size/8 + 64<<20)
	return fs, nil
}

// Label is the name that mkfs was told, "rootfs" with Raspberry Pi OS.
func (fs *FS) Label() string { return fs.label }

// Used is how many bytes are in use, as the file system says.
func (fs *FS) Used() int64 { return fs.used }

// UUID is the number by which /etc/fstab may name it, as blkid prints it.
func (fs *FS) UUID() string {
	u := fs.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func (fs *FS) parseSuper(sb []byte) error {
	le := binary.LittleEndian
	u32 := func(at int) uint32 { return le.Uint32(sb[at:]) }
	if le.Uint16(sb[0x38:]) != superMagic {
		return unsupported("there is none")
	}
	fs.compat, fs.incompat, fs.ro = u32(0x5c), u32(0x60), u32(0x64)
	if err := fs.checkFeatures(); err != nil {
		return err
	}
	copy(fs.uuid[:], sb[0x68:])
	fs.label = string(bytes.TrimRight(sb[0x78:0x88], "\x00"))
	if fs.ro&roMetadataCsum != 0 {
		if sb[0x175] != 1 {
			return unsupported("checksums of kind %d", sb[0x175])
		}
		if crc(^uint32(0), sb[:0x3fc]) != u32(0x3fc) {
			return corrupt("the superblock's checksum is wrong")
		}
		fs.csum = true
		fs.seed = crc(^uint32(0), fs.uuid[:])
		if fs.incompat&incompatCsumSeed != 0 {
			fs.seed = u32(0x270)
		}
	}
	return fs.parseGeometry(sb)
}

func (fs *FS) checkFeatures() error {
	switch {
	case fs.incompat&incompatJournalDev != 0:
		return unsupported("it is the journal of another one")
	case fs.incompat&incompatRecover != 0:
		return unsupported("it was not unmounted cleanly (its journal is not empty): run \"e2fsck -fy\" on it first")
	case fs.incompat&^incompatKnown != 0:
		return unsupported("it has features that rubus doesn't know (incompat %#x)", fs.incompat&^incompatKnown)
	case fs.ro&roSharedBlocks != 0:
		return unsupported("its files share blocks")
	}
	return nil
}

func (fs *FS) parseGeometry(sb []byte) error {
	le := binary.LittleEndian
	u32 := func(at int) uint32 { return le.Uint32(sb[at:]) }
	shift := u32(0x18)
	if shift > 6 {
		return corrupt("blocks of 2^%d KiB", shift)
	}
	fs.block = 1024 << shift
	fs.blocks = uint64(u32(4))
	fs.descSize = 32
	if fs.incompat&incompat64bit != 0 {
		fs.blocks |= uint64(u32(0x150)) << 32
		fs.descSize = int64(le.Uint16(sb[0xfe:]))
	}
	free := uint64(u32(0xc))
	if fs.incompat&incompat64bit != 0 {
		free |= uint64(u32(0x158)) << 32
	}
	if free <= fs.blocks {
		fs.used = int64(fs.blocks-free) * fs.block
	}
	fs.inodes, fs.perGroup = u32(0), u32(0x28)
	fs.firstBlock, fs.blocksPerGroup = u32(0x14), u32(0x20)
	fs.firstMetaBG = u32(0x104)
	fs.backups = [2]uint32{u32(0x24c), u32(0x250)}
	fs.inodeSize = minInode
	if u32(0x4c) > 0 {
		fs.inodeSize = int64(le.Uint16(sb[0x58:]))
	}
	switch {
	case fs.blocks == 0 || fs.blocks > uint64(fs.size/fs.block):
		return corrupt("it says it has %d blocks of %d bytes, and there are %d bytes: is it cut off?", fs.blocks, fs.block, fs.size)
	case fs.inodeSize < minInode || fs.inodeSize > fs.block || fs.inodeSize&(fs.inodeSize-1) != 0:
		return corrupt("inodes of %d bytes", fs.inodeSize)
	case fs.perGroup == 0 || fs.blocksPerGroup == 0 || fs.inodes == 0 || int64(fs.perGroup) > fs.block*8 || int64(fs.blocksPerGroup) > fs.block*8*16:
		return corrupt("%d blocks and %d inodes in a group", fs.blocksPerGroup, fs.perGroup)
	case fs.descSize < 32 || fs.descSize > fs.block || fs.descSize&(fs.descSize-1) != 0 || fs.incompat&incompat64bit != 0 && fs.descSize < 64:
		return corrupt("group descriptors of %d bytes", fs.descSize)
	case uint64(fs.firstBlock) >= fs.blocks:
		return corrupt("the first block is %d of %d", fs.firstBlock, fs.blocks)
	}
	return nil
}

// readGroups finds the inode tables.
func (fs *FS) readGroups() error {
	groups := (fs.blocks - uint64(fs.firstBlock) + uint64(fs.blocksPerGroup) - 1) / uint64(fs.blocksPerGroup)
	if uint64(fs.inodes) > groups*uint64(fs.perGroup) {
		return corrupt("%d inodes in %d groups of %d", fs.inodes, groups, fs.perGroup)
	}
	// Groups without inodes are of no interest, so their number is bounded by that of the inodes.
	groups = min(groups, (uint64(fs.inodes)+uint64(fs.perGroup)-1)/uint64(fs.perGroup))
	perBlock := uint64(fs.block / fs.descSize)
	fs.tables = make([]uint64, groups)
	buf := make([]byte, fs.block)
	for g := range groups {
		if g%perBlock == 0 {
			if err := fs.readBlock(buf, fs.descBlock(g/perBlock, perBlock)); err != nil {
				return fmt.Errorf("reading the group descriptors: %w", err)
			}
		}
		d := buf[int64(g%perBlock)*fs.descSize:][:fs.descSize]
		if fs.csum && uint16(fs.descSum(uint32(g), d)) != binary.LittleEndian.Uint16(d[0x1e:]) {
			return corrupt("the checksum of group %d is wrong", g)
		}
		fs.tables[g] = uint64(binary.LittleEndian.Uint32(d[8:]))
		if fs.descSize >= 64 {
			fs.tables[g] |= uint64(binary.LittleEndian.Uint32(d[0x28:])) << 32
		}
	}
	return nil
}

// descBlock is where block number i of the group descriptors lies: together
// behind the superblock, or with meta_bg in the first group that it describes.
func (fs *FS) descBlock(i, perBlock uint64) uint64 {
	first := uint64(fs.firstBlock)
	if fs.block == superAt && first == 0 {
		first++ // bigalloc: the superblock is in block 1 all the same
	}
	if fs.incompat&incompatMetaBG == 0 || i < uint64(fs.firstMetaBG) {
		return first + 1 + i
	}
	group := i * perBlock
	if group == 0 {
		return first + 1
	}
	at := uint64(fs.firstBlock) + group*uint64(fs.blocksPerGroup)
	if fs.hasSuper(group) {
		at++
	}
	return at
}

// hasSuper says whether a group begins with a copy of the superblock.
func (fs *FS) hasSuper(group uint64) bool {
	switch {
	case group == 0:
		return true
	case fs.compat&compatSparseSuper2 != 0:
		return group == uint64(fs.backups[0]) || group == uint64(fs.backups[1])
	case group == 1 || fs.ro&roSparseSuper == 0:
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

func (fs *FS) descSum(group uint32, d []byte) uint32 {
	sum := crc32le(fs.seed, group)
	sum = crc(sum, d[:0x1e])
	sum = crc(sum, []byte{0, 0})
	return crc(sum, d[0x20:])
}

// readBlock reads block number n into b.
func (fs *FS) readBlock(b []byte, n uint64) error {
	if n >= fs.blocks {
		return corrupt("block %d of %d", n, fs.blocks)
	}
	_, err := fs.r.ReadAt(b, int64(n)*fs.block)
	if errors.Is(err, io.EOF) {
		return corrupt("block %d lies behind the end", n)
	}
	return err
}

// take counts blocks that an inode claims: no block belongs to two inodes, so
// that a sound file system can't claim more than there are.
func (fs *FS) take(bytes int64) error {
	if bytes < 0 || fs.left.Add(-bytes) < 0 {
		return corrupt("its files hold more than the %d bytes it has", fs.size)
	}
	return nil
}

// crc is the kernel's crc32c, which inverts neither before nor after.
func crc(sum uint32, b []byte) uint32 {
	return ^crc32.Update(^sum, crc32.MakeTable(crc32.Castagnoli), b)
}

func crc32le(sum, v uint32) uint32 {
	return crc(sum, binary.LittleEndian.AppendUint32(nil, v))
}
