package importer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rubus/images/treesum"
)

// spool keeps a stream in a file without a name, so that it can be read anywhere: what has no
// name is gone with the process, however it ends. Runs of zeros become holes.
type spool struct {
	file *os.File
	what string // in words
	size int64
	max  int64 // bytes, holes included
}

// newSpool reads all of in, of at most so many bytes, holes included, into a file in dir, where space is that
// of. tell is called at every block.
func newSpool(dir string, space *space, what string, in io.Reader, most int64, tell func()) (*spool, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a temporary file in %q: %w", dir, err)
	}
	s := &spool{file: os.NewFile(uintptr(fd), filepath.Join(dir, "unpacked")), what: what, max: most}
	if err := s.fill(space, in, tell); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *spool) fill(space *space, in io.Reader, tell func()) error {
	buf := make([]byte, treesum.BlockSize)
	stored, checked := int64(0), int64(0)
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
		wrote, werr := s.write(buf[:n])
		if werr != nil {
			return werr
		}
		if stored += wrote; stored-checked >= checkEvery {
			checked = stored
			if err := space.check(); err != nil {
				return err
			}
		}
		if s.size > s.max {
			return fmt.Errorf("%w: the %s has more than %s", ErrTooBig, s.what, mib(s.max))
		}
		tell()
		if end {
			return s.file.Truncate(s.size)
		}
	}
}

// write appends a block and says how much of it takes space.
func (s *spool) write(b []byte) (stored int64, err error) {
	for len(b) > 0 {
		n := 0
		for n < len(b) && !treesum.IsZero(b[n:min(n+treesum.ZeroRun, len(b))]) {
			n = min(n+treesum.ZeroRun, len(b))
		}
		if n == 0 {
			n = min(treesum.ZeroRun, len(b))
		} else {
			if _, err := s.file.WriteAt(b[:n], s.size); err != nil {
				if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
					err = fmt.Errorf("%w to keep the %s: %w", ErrNoSpace, s.what, err)
				}
				return stored, err
			}
			stored += int64(n)
		}
		b, s.size = b[n:], s.size+int64(n)
	}
	return stored, nil
}
