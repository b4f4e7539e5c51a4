package importer

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
	maxEntries = 4 << 20
	maxSizeDir = 4 << 40
	maxSizeTar = 256 << 30
)

// checkEvery is how many bytes are written between two looks at the free space.
const checkEvery = 16 << 20

// space bounds what an import writes. take may be called from several goroutines.
type space struct {
	fd           int
	max, reserve int64
	maxSize      int64
	written      atomic.Int64
	logical      atomic.Int64
	entries      atomic.Int64
}

func newSpace(fd int, o Options, holes bool) (*space, error) {
	s := &space{fd: fd, max: o.MaxBytes, reserve: o.Reserve, maxSize: cmp.Or(o.MaxSize, maxSizeTar)}
	if holes {
		s.holesAreFree(o)
	}
	if s.reserve == 0 {
		st, err := s.statfs()
		if err != nil {
			return nil, err
		}
		s.reserve = min(1<<30, int64(st.Blocks)*st.Bsize/20)
	}
	return s, s.check()
}

// holesAreFree says that holes of the source's files cost no time.
func (s *space) holesAreFree(o Options) { s.maxSize = cmp.Or(o.MaxSize, maxSizeDir) }

func (s *space) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &st); err != nil {
		return st, fmt.Errorf("asking for the free space of the store: %w", err)
	}
	return st, nil
}

// check looks at the file system: bytes and inodes.
func (s *space) check() error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < s.reserve {
		return fmt.Errorf("%w: %s are free where the store is, and %s stay free: remove what isn't needed (\"rubus image gc\")",
			ErrNoSpace, mib(free), mib(s.reserve))
	}
	if st.Files > 0 && st.Ffree < 1000 {
		return fmt.Errorf("%w: only %d inodes are free where the store is", ErrNoSpace, st.Ffree)
	}
	return nil
}

// expect says before the disk is full that content of n bytes will not fit. A quarter
// of it may take nothing: zeros are not written, and a source has overhead.
func (s *space) expect(n int64) error {
	st, err := s.statfs()
	if err != nil {
		return err
	}
	room := max(0, int64(st.Bavail)*st.Bsize-s.reserve) + s.written.Load()
	if n-n/4 > room {
		return fmt.Errorf("%w: it has about %s, and %s are free where the store is, of which %s stay free: remove what isn't needed (\"rubus image gc\")",
			ErrNoSpace, mib(n), mib(int64(st.Bavail)*st.Bsize), mib(s.reserve))
	}
	return nil
}

// shares says whether what is copied from root to the store may share its blocks.
func (s *space) shares(root int) bool {
	var from, to unix.Stat_t
	return unix.Fstat(root, &from) == nil && unix.Fstat(s.fd, &to) == nil && from.Dev == to.Dev
}

// take asks for n more bytes of content on the disk.
func (s *space) take(n int64) error {
	after := s.written.Add(n)
	if s.max > 0 && after > s.max {
		return fmt.Errorf("%w: the content takes more than %d bytes, the given limit", ErrTooBig, s.max)
	}
	if after/checkEvery != (after-n)/checkEvery {
		return s.check()
	}
	return nil
}

// entry asks for one more name, of a file with size bytes.
func (s *space) entry(size int64) error {
	n := s.entries.Add(1)
	if n > maxEntries {
		return fmt.Errorf("%w: more than %d files", ErrTooBig, maxEntries)
	}
	if size < 0 || size > s.maxSize || s.logical.Add(size) > s.maxSize {
		return fmt.Errorf("%w: files of more than %s in all, holes included", ErrTooBig, mib(s.maxSize))
	}
	if n%1024 == 0 {
		return s.check()
	}
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
