package layer

import (
	"errors"
	"io"

	"rubus/images/treesum"
)

// Content is what a file is made of: NextData is the first offset from off on with
// something else than a hole.
type Content interface {
	io.ReaderAt
	Size() int64
	NextData(off int64) int64
}

// CopyFrom writes all of c to f, but does not end it.
func (b *Builder) CopyFrom(f *File, c Content) error {
	buf := b.Buffer()
	defer b.Free(buf)
	for off := c.NextData(0); off < c.Size(); off = c.NextData(off) {
		if err := b.Ctx.Err(); err != nil {
			return err
		}
		off -= off % treesum.BlockSize
		part := buf[:min(treesum.BlockSize, c.Size()-off)]
		if n, err := c.ReadAt(part, off); n < len(part) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		b.Meter.Read.Add(int64(len(part)))
		f.Expect()
		if err := f.Put(off/treesum.BlockSize, part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}
