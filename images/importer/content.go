package importer

import (
	"errors"
	"io"

	"rubus/images/treesum"
)

// content is what a file of an image holds.
type content interface {
	io.ReaderAt
	Size() int64
	NextData(off int64) int64
}

// copyFrom writes all of c to f.
func (b *builder) copyFrom(f *file, c content) error {
	buf := b.buffer()
	defer b.free(buf)
	for off := c.NextData(0); off < c.Size(); off = c.NextData(off) {
		if err := b.ctx.Err(); err != nil {
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
		b.meter.read.Add(int64(len(part)))
		f.expect()
		if err := f.put(off/treesum.BlockSize, part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}
