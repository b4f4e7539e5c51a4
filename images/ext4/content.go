package ext4

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// Content is what a file holds. It is safe for several goroutines.
type Content struct {
	fs   *FS
	size int64
	runs []run
	// inline is all of it, for a few bytes that lie in the inode itself.
	inline []byte
}

// run is a stretch of blocks: at in the file and from in the image, in bytes.
type run struct{ at, from, length int64 }

// Content opens the content of a file, directory or long symbolic link.
func (fs *FS) Content(i *Inode) (*Content, error) {
	if i.flags&(flagCompressed|flagEncrypted) != 0 {
		return nil, unsupported("inode %d is compressed or encrypted", i.Number)
	}
	c := &Content{fs: fs, size: i.Size}
	if i.flags&flagInline != 0 {
		b, err := fs.inlineData(i)
		if err != nil {
			return nil, err
		}
		if int64(len(b)) < i.Size {
			return nil, corrupt("inode %d holds %d of its %d bytes", i.Number, len(b), i.Size)
		}
		c.inline = b[:i.Size]
		return c, nil
	}
	w := &mapper{fs: fs, inode: i}
	var err error
	if i.flags&flagExtents != 0 {
		err = w.extents(i.raw[blockAreaAt:][:blockAreaSize], 0, -1)
	} else {
		err = w.classic(i.raw[blockAreaAt:][:blockAreaSize])
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(w.runs, func(a, b run) int { return cmp.Compare(a.at, b.at) })
	for n, r := range w.runs {
		if n > 0 && w.runs[n-1].at+w.runs[n-1].length > r.at {
			return nil, corrupt("inode %d holds two contents at %d", i.Number, r.at)
		}
	}
	c.runs = w.runs
	return c, nil
}

// InodeEnd is how many bytes of the file system have to be there to read an inode; it checks nothing.
func (fs *FS) InodeEnd(n uint32) int64 {
	if n == 0 || int((n-1)/fs.perGroup) >= len(fs.tables) {
		return 0
	}
	return int64(min(fs.tables[(n-1)/fs.perGroup], fs.blocks))*fs.block + int64((n-1)%fs.perGroup+1)*fs.inodeSize
}

// ContentEnd is how many bytes of the file system have to be there to read an inode's content, math.MaxInt64 when the
// inode alone does not say it. It checks nothing.
func (fs *FS) ContentEnd(i *Inode) int64 {
	le := binary.LittleEndian
	switch area := i.raw[blockAreaAt:][:blockAreaSize]; {
	case i.flags&flagInline != 0, i.Type() != unix.S_IFREG && i.Type() != unix.S_IFDIR:
		return 0
	case i.flags&flagExtents == 0 || le.Uint16(area[6:]) != 0:
		return math.MaxInt64
	default:
		end := uint64(0)
		for e := area[12:][:12*min(4, int(le.Uint16(area[2:])))]; len(e) > 0; e = e[12:] {
			// Longer ones are reserved, and not read.
			if length := uint64(le.Uint16(e[4:])); length <= unwritten {
				end = max(end, uint64(le.Uint32(e[8:]))|uint64(le.Uint16(e[6:]))<<32+length)
			}
		}
		return int64(min(end, fs.blocks)) * fs.block
	}
}

// Size is the length in bytes, holes included.
func (c *Content) Size() int64 { return c.size }

// NextData is the first offset, from off on, at which there is something else
// than a hole; the size when there is nothing.
func (c *Content) NextData(off int64) int64 {
	if c.inline != nil {
		return min(off, c.size)
	}
	n := c.search(off)
	if n == len(c.runs) {
		return c.size
	}
	return min(max(off, c.runs[n].at), c.size)
}

// search finds the first run that ends behind off.
func (c *Content) search(off int64) int {
	n, _ := slices.BinarySearchFunc(c.runs, off, func(r run, off int64) int {
		if r.at+r.length <= off {
			return -1
		}
		return 1
	})
	return n
}

// ReadAt implements io.ReaderAt. Holes are zeros.
func (c *Content) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	var end error
	if rest := c.size - off; int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	if c.inline != nil {
		return copy(b, c.inline[off:]), end
	}
	total := len(b)
	for n := c.search(off); len(b) > 0; n++ {
		if n == len(c.runs) || c.runs[n].at >= off+int64(len(b)) {
			clear(b)
			break
		}
		r := c.runs[n]
		if hole := r.at - off; hole > 0 {
			clear(b[:hole])
			b, off = b[hole:], off+hole
		}
		part := b[:min(int64(len(b)), r.at+r.length-off)]
		if _, err := c.fs.r.ReadAt(part, r.from+off-r.at); err != nil {
			if errors.Is(err, io.EOF) {
				err = corrupt("content lies behind the end")
			}
			return 0, err
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return total, end
}

// mapper collects where the blocks of one inode lie.
type mapper struct {
	fs    *FS
	inode *Inode
	runs  []run
}

// add notes a stretch of count blocks; hole says that it is only reserved.
func (w *mapper) add(logical, physical, count uint64, hole bool) error {
	fs := w.fs
	if count == 0 || physical >= fs.blocks || count > fs.blocks-physical {
		return corrupt("inode %d holds blocks %d+%d of %d", w.inode.Number, physical, count, fs.blocks)
	}
	r := run{int64(logical) * fs.block, int64(physical) * fs.block, int64(count) * fs.block}
	if err := fs.take(r.length); err != nil || hole {
		return err
	}
	if n := len(w.runs) - 1; n >= 0 {
		if l := &w.runs[n]; l.at+l.length == r.at && l.from+l.length == r.from {
			l.length += r.length
			return nil
		}
	}
	w.runs = append(w.runs, r)
	return nil
}

// Magic and bounds of a node of the extent tree.
const (
	extentMagic = 0xf30a
	maxDepth    = 5
	unwritten   = 1 << 15 // longer ones are reserved, and hold zeros
)

// extents reads one node of the extent tree: 12 bytes of header, then entries of
// 12 bytes. Depth is what the node above says, -1 for the root.
func (w *mapper) extents(b []byte, physical uint64, depth int) error {
	le := binary.LittleEndian
	count, room, at := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	switch {
	case le.Uint16(b) != extentMagic, count > room, 12+12*room > len(b), at > maxDepth, depth >= 0 && at != depth:
		return corrupt("inode %d has a damaged extent tree", w.inode.Number)
	}
	if depth >= 0 && w.fs.csum {
		tail := 12 + 12*room
		if tail+4 > len(b) || crc(w.inode.seed, b[:tail]) != le.Uint32(b[tail:]) {
			return corrupt("the checksum of block %d, extents of inode %d, is wrong", physical, w.inode.Number)
		}
	}
	for e := b[12:]; count > 0; count-- {
		logical := uint64(le.Uint32(e))
		if at == 0 {
			length, hole := uint64(le.Uint16(e[4:])), false
			if length > unwritten {
				length, hole = length-unwritten, true
			}
			if err := w.add(logical, uint64(le.Uint32(e[8:]))|uint64(le.Uint16(e[6:]))<<32, length, hole); err != nil {
				return err
			}
		} else {
			if err := w.child(uint64(le.Uint32(e[4:]))|uint64(le.Uint16(e[8:]))<<32, at-1); err != nil {
				return err
			}
		}
		e = e[12:]
	}
	return nil
}

func (w *mapper) child(physical uint64, depth int) error {
	b, err := w.index(physical)
	if err != nil {
		return err
	}
	return w.extents(b, physical, depth)
}

// index reads a block that says where others lie.
func (w *mapper) index(physical uint64) ([]byte, error) {
	if err := w.fs.take(w.fs.block); err != nil {
		return nil, err
	}
	b := make([]byte, w.fs.block)
	return b, w.fs.readBlock(b, physical)
}

// classic reads the block numbers of ext2 and ext3: twelve, then one block of
// numbers, one of those, and one of those.
func (w *mapper) classic(b []byte) error {
	le := binary.LittleEndian
	blocks := uint64((w.inode.Size + w.fs.block - 1) / w.fs.block)
	at := uint64(0)
	for n := range 12 {
		if at >= blocks {
			return nil
		}
		if p := le.Uint32(b[4*n:]); p != 0 {
			if err := w.add(at, uint64(p), 1, false); err != nil {
				return err
			}
		}
		at++
	}
	span := uint64(1)
	for level := range 3 {
		if at >= blocks {
			return nil
		}
		if err := w.indirect(uint64(le.Uint32(b[4*(12+level):])), at, blocks, level); err != nil {
			return err
		}
		span *= uint64(w.fs.block / 4)
		at += span
	}
	return nil
}

// indirect reads a block of numbers, which stand for file block at and those behind.
func (w *mapper) indirect(physical, at, blocks uint64, level int) error {
	if physical == 0 {
		return nil
	}
	b, err := w.index(physical)
	if err != nil {
		return err
	}
	span := uint64(1)
	for range level {
		span *= uint64(w.fs.block / 4)
	}
	for ; len(b) > 0 && at < blocks; b, at = b[4:], at+span {
		p := uint64(binary.LittleEndian.Uint32(b))
		switch {
		case p == 0:
		case level == 0:
			err = w.add(at, p, 1, false)
		default:
			err = w.indirect(p, at, blocks, level-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
