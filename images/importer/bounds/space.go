package bounds

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrNoSpace says that an import would have taken the space that stays free.
var ErrNoSpace = errors.New("not enough space")

// ErrTooBig says that an import is bigger than it may be.
var ErrTooBig = errors.New("too big")

// Bounds no real root file system comes near; they keep a few hostile bytes
// from costing hours or all memory.
const (
	MaxEntries = 4 << 20
	maxSizeDir = 4 << 40   // bytes, of a directory
	maxSize    = 256 << 30 // bytes, of what is unpacked
	// MaxTrailer is how much may follow the end of an archive, in bytes: tar fills
	// its last record with zeros, of 10 KiB by default.
	MaxTrailer = 64 << 20
)

// CheckEvery is how many bytes are written between two looks at the free space.
const CheckEvery = 16 << 20

// Limits are those of one import; the zero value is good.
type Limits struct {
	// MaxBytes bounds the content written, in bytes without holes; 0: only by the space.
	MaxBytes int64
	// MaxSize bounds the sizes of all files together, in bytes with holes; 0 is 256 GiB, and 4 TiB
	// where holes are free.
	MaxSize int64
	// Reserve is the space in bytes that stays free; 0 is 1 GiB or a twentieth of the file system,
	// whichever is less.
	Reserve int64
}

// Unpacked is what a packed file may unpack to, in bytes, holes included.
func (l Limits) Unpacked() int64 { return cmp.Or(l.MaxSize, maxSize) }

// Space bounds what an import writes. Its methods may be called from several goroutines, but for HolesAreFree.
type Space struct {
	fd      int
	limits  Limits
	maxSize int64
	written atomic.Int64
	logical atomic.Int64
	entries atomic.Int64
}

// New bounds what is written to the file system that the directory fd is on.
func New(fd int, l Limits) (*Space, error) {
	s := &Space{fd: fd, limits: l, maxSize: l.Unpacked()}
	if s.limits.Reserve == 0 {
		st, err := s.statfs()
		if err != nil {
			return nil, err
		}
		s.limits.Reserve = min(1<<30, int64(st.Blocks)*st.Bsize/20)
	}
	return s, s.Check()
}

// HolesAreFree says that holes of the source's files cost no time.
func (s *Space) HolesAreFree() { s.maxSize = cmp.Or(s.limits.MaxSize, maxSizeDir) }

func (s *Space) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &st); err != nil {
		return st, fmt.Errorf("asking for the free space of the store: %w", err)
	}
	return st, nil
}

// Check looks at the file system: bytes and inodes.
func (s *Space) Check() error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < s.limits.Reserve {
		return fmt.Errorf("%w: %s are free where the store is, and %s stay free: remove what isn't needed (\"rubus image gc\")",
			ErrNoSpace, MiB(free), MiB(s.limits.Reserve))
	}
	if st.Files > 0 && st.Ffree < 1000 {
		return fmt.Errorf("%w: only %d inodes are free where the store is", ErrNoSpace, st.Ffree)
	}
	return nil
}

// Expect says before the disk is full that content of n bytes will not fit. A quarter
// of it may take nothing: zeros are not written, and a source has overhead.
func (s *Space) Expect(n int64) error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	room := max(0, int64(st.Bavail)*st.Bsize-s.limits.Reserve) + s.written.Load()
	if n-n/4 > room {
		return fmt.Errorf("%w: it has about %s, and %s are free where the store is, of which %s stay free: remove what isn't needed (\"rubus image gc\")",
			ErrNoSpace, MiB(n), MiB(int64(st.Bavail)*st.Bsize), MiB(s.limits.Reserve))
	}
	return nil
}

// Shares says whether what is copied from root to the store may share its blocks.
func (s *Space) Shares(root int) bool {
	var from, to unix.Stat_t
	return unix.Fstat(root, &from) == nil && unix.Fstat(s.fd, &to) == nil && from.Dev == to.Dev
}

// Take asks for n more bytes of content on the disk.
func (s *Space) Take(n int64) error {
	after := s.written.Add(n)
	if s.limits.MaxBytes > 0 && after > s.limits.MaxBytes {
		return fmt.Errorf("%w: the content takes more than %d bytes, the given limit", ErrTooBig, s.limits.MaxBytes)
	}
	if after/CheckEvery != (after-n)/CheckEvery {
		return s.Check()
	}
	return nil
}

// Entry asks for one more name, of a file with size bytes.
func (s *Space) Entry(size int64) error {
	n := s.entries.Add(1)
	if n > MaxEntries {
		return fmt.Errorf("%w: more than %d files", ErrTooBig, MaxEntries)
	}
	if size < 0 || size > s.maxSize || s.logical.Add(size) > s.maxSize {
		return fmt.Errorf("%w: files of more than %s in all, holes included", ErrTooBig, MiB(s.maxSize))
	}
	if n%1024 == 0 {
		return s.Check()
	}
	return nil
}

// MiB prints a number of bytes.
func MiB(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// Short keeps a hostile name from filling the screen.
func Short(path string) string {
	if len(path) > 100 {
		return path[:100] + "..."
	}
	return path
}
