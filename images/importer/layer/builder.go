package layer

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/meter"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// Builder makes a tree. Names are made one after the other, by one goroutine, in the order
// of the source: so later entries win, and a hard link finds its file. Content
// and attributes of files are written by workers meanwhile.
type Builder struct {
	// Ctx ends with the import, or when a worker failed.
	Ctx context.Context //nolint:containedctx // lives as long as one call
	// Root is the tree so far; only the goroutine that makes names looks at it.
	Root  *Node
	Meter *meter.Meter
	Space *bounds.Space
	Notes *Notes
	// Lower is what it is stacked on: whiteouts mean something, if anything is there.
	Lower Lower
	// NoClone says that the source's and the store's file systems share no content.
	NoClone atomic.Bool

	dirs    *dirCache
	group   *errgroup.Group
	jobs    chan func() error
	buffers chan []byte
	// Devices is what becomes of device nodes. It is set before the first name is made.
	Devices Devices
	dropped map[string]bool // device nodes that were left out, by path

	mu     sync.Mutex               // guards what follows
	open   map[*File]bool           // files not finished
	stored map[*treesum.Entry]int64 // bytes on disk of those that are
}

// inFlight is how many blocks wait for a worker at most.
const inFlight = 32

// NewBuilder begins a tree in the directory rootfd. Its workers end with Finish.
func NewBuilder(ctx context.Context, rootfd int, m *meter.Meter, s *bounds.Space, n *Notes, below Lower) *Builder {
	group, ctx := errgroup.WithContext(ctx)
	b := &Builder{
		Ctx: ctx, group: group, Meter: m, Space: s, Notes: n, Lower: below,
		Root:    &Node{Inode: DefaultDir(0, 0), Children: make(map[string]*Node)},
		dirs:    newDirCache(rootfd),
		jobs:    make(chan func() error, inFlight),
		buffers: make(chan []byte, inFlight),
		dropped: make(map[string]bool),
		open:    make(map[*File]bool),
		stored:  make(map[*treesum.Entry]int64),
	}
	// What the store's own directory passes on to what is made in it is not the source's.
	_ = unix.Fremovexattr(rootfd, "system.posix_acl_default")
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for job := range b.jobs {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := job(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return b
}

// DefaultDir describes a directory that the source implies but doesn't have.
func DefaultDir(sec, nsec int64) *treesum.Entry {
	return &treesum.Entry{Type: treesum.Dir, Mode: 0o755, Sec: sec, Nsec: nsec}
}

// Go runs f beside the workers: its error ends the import, and Finish waits for it.
func (b *Builder) Go(f func() error) { b.group.Go(f) }

// Do hands work to a worker.
func (b *Builder) Do(job func() error) error {
	select {
	case b.jobs <- job:
		return nil
	case <-b.Ctx.Done():
		return b.Ctx.Err()
	}
}

// Buffer gives a block's worth of memory; give it back with Free.
func (b *Builder) Buffer() []byte {
	select {
	case buf := <-b.buffers:
		return buf[:treesum.BlockSize]
	default:
		return make([]byte, treesum.BlockSize)
	}
}

// Free takes a buffer back.
func (b *Builder) Free(buf []byte) {
	select {
	case b.buffers <- buf:
	default:
	}
}

// Parent gives the directory that path lies in and its own name, making
// directories that the source left out with the time given. A link or file on the way is refused.
func (b *Builder) Parent(p string, sec, nsec int64) (*Node, string, error) {
	dir, name := path.Split(p)
	at := b.Root
	for len(dir) > 0 {
		i := 0
		for dir[i] != '/' {
			i++
		}
		part := dir[:i]
		dir = dir[i+1:]
		next := at.Children[part]
		switch {
		case next == nil:
			var err error
			if next, err = b.Mkdir(at, part, b.Implied(at, part, sec, nsec)); err != nil {
				return nil, "", err
			}
		case next.Inode.Type == treesum.Symlink:
			return nil, "", fmt.Errorf("%q would be written through the symbolic link %q: %w", p, next.Path(), ErrHostile)
		case !next.IsDir():
			return nil, "", fmt.Errorf("%q lies below %q, which is no directory: %w", p, next.Path(), ErrHostile)
		}
		at = next
	}
	return at, name, nil
}

// add makes room for a name: what stands there goes, as with tar. A directory
// that holds something stays, and is an error.
func (b *Builder) add(dir *Node, name string, size int64) (fd int, err error) {
	if err := b.Space.Entry(size); err != nil {
		return -1, err
	}
	b.Meter.Files.Add(1)
	if fd, err = b.dirs.open(dir); err != nil {
		return -1, err
	}
	old := dir.Children[name]
	if old == nil {
		return fd, nil
	}
	flags := 0
	if old.IsDir() {
		if len(old.Children) > 0 {
			return -1, fmt.Errorf("%q would replace a directory that holds something: %w", old.Path(), ErrHostile)
		}
		b.dirs.drop(old)
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(fd, name, flags); err != nil {
		return -1, fmt.Errorf("replacing %q: %w", old.Path(), err)
	}
	delete(dir.Children, name)
	return fd, nil
}

func (b *Builder) put(dir *Node, name string, e *treesum.Entry) *Node {
	n := &Node{name: name, parent: dir, Inode: e}
	if e.Type == treesum.Dir {
		n.Children = make(map[string]*Node)
	}
	dir.Children[name] = n
	return n
}

// Mkdir makes a directory, or gives one that is there the attributes of e. They
// are set when everything below has been written.
func (b *Builder) Mkdir(dir *Node, name string, e *treesum.Entry) (*Node, error) {
	if old := dir.Children[name]; old != nil && old.IsDir() {
		old.Inode = e
		return old, nil
	}
	fd, err := b.add(dir, name, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(fd, name, 0o700); err != nil {
		return nil, b.failed(dir, name, err)
	}
	return b.put(dir, name, e), nil
}

// Special makes a symbolic link, device or fifo. A socket is left out, and so
// is what would hide a file of a base there is none of.
func (b *Builder) Special(dir *Node, name string, e *treesum.Entry) error {
	p := path.Join(dir.Path(), name)
	switch {
	case e.Type == treesum.Socket:
		b.Notes.Add("sockets were left out: their servers make them anew", p)
		return nil
	case e.Type == treesum.Char && e.Major == 0 && e.Minor == 0 && len(b.Lower) == 0:
		b.Notes.Add("0/0 character devices (whiteouts) were left out: there is no base they could hide files of", p)
		return nil
	}
	if made, err := b.device(dir, name, e); err != nil || !made {
		return err
	}
	fd, err := b.add(dir, name, 0)
	if err != nil {
		return err
	}
	if e.Type == treesum.Symlink {
		err = unix.Symlinkat(e.Target, fd, name)
	} else {
		kind := map[byte]uint32{treesum.Char: unix.S_IFCHR, treesum.Block: unix.S_IFBLK, treesum.Fifo: unix.S_IFIFO}[e.Type]
		err = unix.Mknodat(fd, name, kind|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	}
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w (making device nodes needs root and CAP_MKNOD)", err)
	}
	if err == nil {
		err = setAttrsAt(fd, name, e)
	}
	if err != nil {
		return b.failed(dir, name, err)
	}
	b.put(dir, name, e)
	return nil
}

// Link makes another name of an existing file.
func (b *Builder) Link(dir *Node, name string, target *Node) error {
	if dir.Children[name] == target {
		return nil
	}
	if _, err := b.add(dir, name, 0); err != nil {
		return err
	}
	from, err := b.dirs.open(target.parent)
	if err != nil {
		return err
	}
	// The cache may close one directory to open another: two are needed at once.
	if from, err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return b.failed(dir, name, err)
	}
	defer unix.Close(from)
	to, err := b.dirs.open(dir)
	if err != nil {
		return err
	}
	if err := unix.Linkat(from, target.name, to, name, 0); err != nil {
		return b.failed(dir, name, err)
	}
	b.put(dir, name, target.Inode)
	return nil
}

// Create makes a regular file, whose content and attributes follow through it.
func (b *Builder) Create(dir *Node, name string, e *treesum.Entry) (*File, error) {
	fd, err := b.add(dir, name, e.Size)
	if err != nil {
		return nil, err
	}
	out, err := onefs.OpenAt(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, b.failed(dir, name, err)
	}
	n := b.put(dir, name, e)
	return newFile(b, out, n), nil
}

func (b *Builder) failed(dir *Node, name string, err error) error {
	return fmt.Errorf("making %q in the new layer: %w", path.Join(dir.Path(), name), err)
}

// Finish waits for the workers, then gives the directories their attributes, which making
// files in them has changed. err is what the source ended with.
func (b *Builder) Finish(err error) (entries []treesum.Entry, bytes int64, _ error) {
	close(b.jobs)
	// The workers' error comes first: it is why the source was told to stop.
	if werr := b.group.Wait(); werr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = werr
	}
	if err != nil {
		return nil, 0, err
	}
	if err := b.finishDir(b.Root, ""); err != nil {
		return nil, 0, err
	}
	names := b.Root.names("", nil)
	counted := make(map[*treesum.Entry]bool)
	for _, n := range names {
		if !counted[n.Inode] {
			counted[n.Inode] = true
			bytes += b.stored[n.Inode]
		}
	}
	return treesum.Entries(names), bytes, nil
}

func (b *Builder) finishDir(n *Node, p string) error {
	for name, c := range n.Children {
		if c.IsDir() {
			if err := b.finishDir(c, path.Join(p, name)); err != nil {
				return err
			}
		}
	}
	fd, err := onefs.OpenDir(b.dirs.root, p)
	if err == nil {
		err = SetAttrs(fd, n.Inode)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("setting attributes of %q in the new layer: %w", "/"+p, err)
	}
	return nil
}

// Close gives up what an import that failed has left open.
func (b *Builder) Close() {
	b.dirs.close()
	b.Lower.Close()
	for f := range b.open {
		unix.Close(f.fd)
	}
}
