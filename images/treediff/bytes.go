package treediff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// SameBytes says whether two regular files of the same size hold the same bytes. What is a
// hole in both is not read: a board makes a file of any size at no cost.
func SameBytes(ctx context.Context, f, g *os.File, size int64) (bool, error) {
	const block = 256 << 10
	p, q := make([]byte, block), make([]byte, block)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		off = min(nextData(f, off, size), nextData(g, off, size))
		n := min(block, size-off)
		for _, r := range []struct {
			f *os.File
			b []byte
		}{{f, p[:n]}, {g, q[:n]}} {
			if _, err := r.f.ReadAt(r.b, off); errors.Is(err, io.EOF) {
				return false, nil // it shrank
			} else if err != nil {
				return false, err
			}
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
		off += n
	}
	return true, nil
}

// nextData is where there is data next, at off or behind it; size: nowhere. Where the file
// system does not tell, all is data.
func nextData(f *os.File, off, size int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return min(at, size)
}
