package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/treesum"
)

// File keeps a stream in a file without a name, so that it can be read anywhere: what has no
// name is gone with the process, however it ends. Runs of zeros become holes. What came can be
// read while the rest comes; whoever reads further waits.
type File struct {
	file  *os.File
	what  string // in words
	max   int64  // bytes, holes included
	space *bounds.Space
	ended chan struct{} // closed when nothing is written any more

	mu   sync.Mutex
	more *sync.Cond
	have int64
	err  error // why there is no more: io.EOF when all is there
}

// New makes a File of at most so many bytes, holes included, in dir, where space is that of.
func New(dir string, space *bounds.Space, what string, most int64) (*File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a temporary file in %q: %w", dir, err)
	}
	s := &File{file: os.NewFile(uintptr(fd), filepath.Join(dir, "unpacked")), what: what, max: most, space: space, ended: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	return s, nil
}

// Fill takes all of in, calls tell at every block, and whole when all is there. It is called once.
func (s *File) Fill(in io.Reader, tell, whole func()) {
	defer close(s.ended)
	err := s.copy(in, tell)
	if err == nil {
		whole()
		err = io.EOF
	}
	s.End(err)
}

func (s *File) copy(in io.Reader, tell func()) error {
	buf := make([]byte, treesum.BlockSize)
	size, stored, checked := int64(0), int64(0), int64(0)
	for {
		// Not io.ReadFull: what is cut off in the middle must not look like an end.
		n, end := 0, false
		for n < len(buf) && !end {
			k, err := in.Read(buf[n:])
			n += k
			if end = err == io.EOF; err != nil && !end {
				return err
			}
		}
		wrote, err := s.write(buf[:n], size)
		if err != nil {
			return err
		}
		size += int64(n)
		if stored += wrote; stored-checked >= bounds.CheckEvery {
			checked = stored
			if err := s.space.Check(); err != nil {
				return err
			}
		}
		if size > s.max {
			return fmt.Errorf("%w: the %s has more than %s", bounds.ErrTooBig, s.what, bounds.MiB(s.max))
		}
		tell()
		if end {
			if err := s.file.Truncate(size); err != nil {
				return err
			}
		}
		if err := s.came(size); err != nil || end {
			return err
		}
	}
}

// Max is how much it takes at most, in bytes, holes included.
func (s *File) Max() int64 { return s.max }

// ReaderAt reads all of it, when All said that it is there.
func (s *File) ReaderAt() io.ReaderAt { return s.file }

// Close gives up what is kept. Whoever fills it goes on until the stream ends: see End and All.
func (s *File) Close() error { return s.file.Close() }

// came says that so much is there, and why no more is wanted.
func (s *File) came(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = size
	s.more.Broadcast()
	return s.err
}

// End says why there is no more; the first reason counts.
func (s *File) End(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = why
	}
	s.more.Broadcast()
}

// All waits until all is there, and says how much that is.
func (s *File) All() (int64, error) {
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != io.EOF {
		return 0, s.err
	}
	return s.have, nil
}

// Reader reads what came, and waits for what comes until ctx ends.
func (s *File) Reader(ctx context.Context) io.ReaderAt {
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})
	return reader{ctx, s}
}

type reader struct {
	ctx context.Context //nolint:containedctx // lives as long as one import
	s   *File
}

// ReadAt implements io.ReaderAt.
func (r reader) ReadAt(b []byte, off int64) (int, error) {
	have, err := r.wait(off + int64(len(b)))
	if err != nil {
		return 0, err
	}
	var end error
	if rest := max(0, have-off); int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	n, err := r.s.file.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	clear(b[n:]) // a hole that nothing was written behind yet
	return len(b), end
}

// wait waits until so much, or all, is there, and says how much is.
func (r reader) wait(size int64) (int64, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for r.s.have < size && r.s.err == nil && r.ctx.Err() == nil {
		r.s.more.Wait()
	}
	switch {
	case r.s.have >= size || r.s.err == io.EOF:
		return r.s.have, nil
	case r.s.err != nil:
		return 0, r.s.err
	}
	return 0, r.ctx.Err()
}

// write puts a block at an offset and says how much of it takes space.
func (s *File) write(b []byte, at int64) (stored int64, err error) {
	for len(b) > 0 {
		n := 0
		for n < len(b) && !treesum.IsZero(b[n:min(n+treesum.ZeroRun, len(b))]) {
			n = min(n+treesum.ZeroRun, len(b))
		}
		if n == 0 {
			n = min(treesum.ZeroRun, len(b))
		} else {
			if _, err := s.file.WriteAt(b[:n], at); err != nil {
				if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
					err = fmt.Errorf("%w to keep the %s: %w", bounds.ErrNoSpace, s.what, err)
				}
				return stored, err
			}
			stored += int64(n)
		}
		b, at = b[n:], at+int64(n)
	}
	return stored, nil
}
