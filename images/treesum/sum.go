package treesum

import (
	"bytes"
	"crypto/sha256"
	"sync"
)

// BlockSize is the size in bytes of the blocks that long content is hashed in.
const BlockSize = 1 << 20

// Sum is the hash of a file's content, as the package's comment defines it.
type Sum [sha256.Size]byte

// Blocks collects the hashes of one file's blocks. Put may be called from
// several goroutines for different blocks.
type Blocks struct {
	size int64
	sums []Sum
	put  []bool
}

// NewBlocks starts the hash of content of size bytes, all of which is zero
// until Put says otherwise.
func NewBlocks(size int64) *Blocks {
	n := max(1, (size+BlockSize-1)/BlockSize)
	return &Blocks{size: size, sums: make([]Sum, n), put: make([]bool, n)}
}

// Put hashes block number i, which must be as long as that block is.
func (b *Blocks) Put(i int64, data []byte) {
	b.sums[i], b.put[i] = sha256.Sum256(data), true
}

// Sum is the hash of the content put so far.
func (b *Blocks) Sum() Sum {
	for i := range b.sums {
		if !b.put[i] {
			b.sums[i] = zeros(min(BlockSize, b.size-int64(i)*BlockSize))
		}
	}
	if len(b.sums) == 1 {
		return b.sums[0]
	}
	h := sha256.New()
	for i := range b.sums {
		h.Write(b.sums[i][:])
	}
	return Sum(h.Sum(nil))
}

// zeroBlock is the hash of a whole block of zeros.
var zeroBlock = sync.OnceValue(func() Sum { return sha256.Sum256(make([]byte, BlockSize)) })

func zeros(n int64) Sum {
	if n == BlockSize {
		return zeroBlock()
	}
	return sha256.Sum256(make([]byte, n))
}

// ZeroRun is the granularity in bytes of IsZero's users: a run of zeros of this
// size and alignment becomes a hole.
const ZeroRun = 64 << 10

// IsZero says that b, of at most ZeroRun bytes, holds only zeros.
func IsZero(b []byte) bool { return bytes.Equal(b, zeroRun[:len(b)]) }

// zeroRun is never written.
var zeroRun [ZeroRun]byte
