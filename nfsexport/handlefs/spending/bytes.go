package spending

import "golang.org/x/sys/unix"

// Block is what space is taken in: that of nearly every file system.
const Block = 4096

func roundUp(n int64) int64 { return (n + Block - 1) &^ (Block - 1) }

// Bytes is the space of an object with the attributes st. What a file system keeps ready
// behind the end of a file (xfs) is not the board's doing.
func Bytes(st *unix.Stat_t) int64 {
	b := st.Blocks * 512
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		b = min(b, roundUp(st.Size))
	}
	return b
}

// hasHoles says whether a file with the attributes st has space to take before its end.
func hasHoles(st *unix.Stat_t) bool { return st.Blocks*512 < st.Size }

// LastBlock is the space that a file may take when it grows to somewhere behind its last
// block: btrfs fills that with zeros, also where it is in a hole.
func LastBlock(st *unix.Stat_t) int64 {
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size%Block != 0 && hasHoles(st) {
		return Block
	}
	return 0
}

// Over is the space of the blocks that a write of n bytes at off writes to.
func Over(off, n int64) int64 { return roundUp(off+n) - off&^(Block-1) }

// Growth is the space that a write of n bytes at off may take at most, to a file of the
// board's own with the attributes st. Where inside is true it is all within the file, which
// has holes somewhere: if none is where the write goes, it takes nothing.
func Growth(st *unix.Stat_t, off, n int64) (most int64, inside bool) {
	end := off + n
	if end <= roundUp(st.Size) && !hasHoles(st) {
		return 0, false // not past the last block
	}
	most = Over(off, n)
	if off >= roundUp(st.Size) {
		most += LastBlock(st)
	}
	return most, end <= st.Size
}
