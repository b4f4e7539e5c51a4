package bootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrShrunk says that a file became shorter while it was read.
var ErrShrunk = errors.New("file shrank while it was read")

// File is one open file of a board's tree. Its size is fixed when it is
// opened: what is appended later isn't read, and what is cut off makes reads
// fail with ErrShrunk. A File is for one goroutine; ReadAt is for any number.
type File struct {
	data      io.ReaderAt
	closer    io.Closer
	size, off int64
	modTime   time.Time
	generated bool
	inode     uint64
	identity  string
}

// FileOf is a file of bytes that were made for a request.
func FileOf(text []byte) *File { return generatedFile(text) }

func generatedFile(text []byte) *File {
	return &File{data: bytes.NewReader(text), size: int64(len(text)), generated: true}
}

// Size is the number of bytes there are to read.
func (f *File) Size() int64 { return f.size }

// ModTime is when the board last wrote the file; zero for a generated one.
func (f *File) ModTime() time.Time { return f.modTime }

// Generated says that the bytes were made for this request.
func (f *File) Generated() bool { return f.generated }

// Read implements io.Reader.
func (f *File) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt within the size.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: negative offset", off)
	}
	if off >= f.size {
		return 0, io.EOF
	}
	want, end := b, error(nil)
	if left := f.size - off; int64(len(b)) > left {
		want, end = b[:left], io.EOF
	}
	n, err := f.data.ReadAt(want, off)
	if n == len(want) {
		return n, end
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %d bytes of %d", ErrShrunk, off+int64(n), f.size)
	}
	return n, err
}

// ReadNow is Read of what is in memory: it gives fewer bytes than there are, or
// none, where it would have to wait for a disk, and where the file system can't say.
func (f *File) ReadNow(b []byte) int {
	if left := f.size - f.off; int64(len(b)) > left {
		b = b[:max(0, left)]
	}
	n := 0
	switch data := f.data.(type) {
	case *bytes.Reader:
		n, _ = data.ReadAt(b, f.off) // within the size
	case *os.File:
		n = readNow(data, b, f.off)
	}
	f.off += int64(n)
	return n
}

// Seek implements io.Seeker.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return 0, fmt.Errorf("seeking to %d, whence %d: no such place", offset, whence)
	}
	f.off = offset
	return offset, nil
}

// Close releases the file.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}
