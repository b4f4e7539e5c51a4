package ballast

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Size is what a Ballast keeps, in bytes: enough for the upper of a hundred boards.
const Size = 4 << 20

// step is how much is given away at a time: more than any one thing asks for. least is what
// is taken back at least.
const (
	step  = 1 << 20
	least = 64 << 10
)

// Ballast is a file whose blocks are given away when they are needed. It is safe for use by several
// goroutines.
type Ballast struct {
	path string

	mu sync.Mutex // held while blocks are given away, so that each is for one
}

// New keeps its blocks in the file at path. It takes none yet.
func New(path string) *Ballast { return &Ballast{path: path} }

// Fill takes the blocks that are missing, as far as there are any. An error that is not
// about space says why there will be none.
func (b *Ballast) Fill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fill()
}

func (b *Ballast) fill() error {
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		defer f.Close()
		err = fill(f)
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("keeping blocks ready for a full disk: %w", err)
	}
	return nil
}

func fill(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	size := st.Size
	if st.Blocks*512 < size { // a copy, with holes
		if err := f.Truncate(0); err != nil {
			return err
		}
		size = 0
	}
	for more := int64(Size); size < Size && more >= least; {
		more = min(more, Size-size)
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
			return err
		}
		// Not tried for where it is seen to fail: a try takes the last blocks from others
		// for a while.
		if int64(fs.Bavail)*fs.Bsize < more+least {
			more = more / 2 &^ 4095
			continue
		}
		err := unix.Fallocate(int(f.Fd()), 0, size, more)
		if err == nil {
			size += more
			continue
		}
		err = errors.Join(f.Truncate(size), err) // with what it has allocated of it
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		more = more / 2 &^ 4095
	}
	return nil
}

// Do calls f, and when that finds no space on the disk again, with blocks to go by: what f
// leaves of them is taken back. f does all from its beginning each time. It may block for as
// long as others do who need blocks.
func (b *Ballast) Do(f func() error) error {
	err := f()
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for errors.Is(err, unix.ENOSPC) && b.give() {
		err = f()
	}
	_ = b.fill() // the next Fill says what is wrong
	return err
}

// give frees a step; it is false when none is left.
func (b *Ballast) give() bool {
	f, err := os.OpenFile(b.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	// Blocks can be had again when it is on the disk that they are free.
	return errors.Join(f.Truncate(max(0, fi.Size()-step)), f.Sync()) == nil
}
