package rawfs

import "sync"

// DirBuf is how much of a directory is asked for at once.
const DirBuf = 64 << 10

// DirBufs are buffers that directories are read into, used again. The zero DirBufs has none.
// Its methods may be called from many goroutines at once.
type DirBufs struct{ pool sync.Pool }

// Get gives a buffer; Put is to follow.
func (b *DirBufs) Get() *[DirBuf]byte {
	if buf, ok := b.pool.Get().(*[DirBuf]byte); ok {
		return buf
	}
	return new([DirBuf]byte)
}

// Put takes a buffer back, which must not be used any more.
func (b *DirBufs) Put(buf *[DirBuf]byte) { b.pool.Put(buf) }
