package layer

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/treesum"
)

// File is a regular file whose content is being written, block by block in any
// order by any goroutine. Whoever ends the last block gives it its attributes.
type File struct {
	b    *Builder
	fd   int
	Node *Node
	sums *treesum.Blocks
	left atomic.Int64 // blocks to come, and one for the writer who started
	// stored counts the bytes that are no hole.
	stored atomic.Int64
	// cloned says that the content is there already, shared with the source.
	cloned bool
}

func newFile(b *Builder, fd int, n *Node) *File {
	f := &File{b: b, fd: fd, Node: n, sums: treesum.NewBlocks(n.Inode.Size)}
	f.left.Store(1)
	b.mu.Lock()
	b.open[f] = true
	b.mu.Unlock()
	return f
}

// Expect announces a block: every Put needs one before.
func (f *File) Expect() { f.left.Add(1) }

// Put writes block number i. Runs of zeros become holes.
func (f *File) Put(i int64, data []byte) error {
	whole, zero := data, true
	off := i * treesum.BlockSize
	for len(data) > 0 {
		// As much as there is between two runs of zeros goes out at once.
		n := 0
		for n < len(data) {
			run := data[n:min(n+treesum.ZeroRun, len(data))]
			if treesum.IsZero(run) {
				break
			}
			n += len(run)
		}
		if n == 0 {
			skip := min(treesum.ZeroRun, len(data))
			data, off = data[skip:], off+int64(skip)
			continue
		}
		if zero {
			zero = false
			f.sums.Put(i, whole)
		}
		f.stored.Add(int64(n))
		if err := f.b.Space.Take(int64(n)); err != nil {
			return err
		}
		if err := f.write(data[:n], off); err != nil {
			return err
		}
		data, off = data[n:], off+int64(n)
	}
	return f.Done()
}

func (f *File) write(data []byte, off int64) error {
	for len(data) > 0 && !f.cloned {
		n, err := unix.Pwrite(f.fd, data, off)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSPC || err == unix.EDQUOT {
			return fmt.Errorf("writing %q in the new layer: %w: %w", f.Node.Path(), bounds.ErrNoSpace, err)
		}
		if err != nil {
			return fmt.Errorf("writing %q in the new layer: %w", f.Node.Path(), err)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// Done ends one block, or the writer who started.
func (f *File) Done() error {
	if f.left.Add(-1) > 0 {
		return nil
	}
	err := f.finish()
	f.b.mu.Lock()
	delete(f.b.open, f)
	f.b.stored[f.Node.Inode] = f.stored.Load()
	f.b.mu.Unlock()
	if cerr := unix.Close(f.fd); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("finishing %q in the new layer: %w", f.Node.Path(), err)
	}
	return nil
}

func (f *File) finish() error {
	e := f.Node.Inode
	// A hole at the end has to be said.
	if err := unix.Ftruncate(f.fd, e.Size); err != nil {
		return err
	}
	e.Sum = f.sums.Sum()
	return SetAttrs(f.fd, e)
}

// Clone has the file share the content of the open file from, where the file system can, and says whether it does.
// What is put then only counts.
func (f *File) Clone(from int) bool {
	f.cloned = unix.IoctlFileClone(f.fd, from) == nil
	return f.cloned
}
