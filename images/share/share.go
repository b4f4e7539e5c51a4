package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// ErrUnsupported says that the store's file system has no blocks that two files share.
var ErrUnsupported = errors.New("the file system of the image store shares no blocks between files: xfs and btrfs do")

// Options of a run; the zero value joins all that the store has.
type Options struct {
	// Only are the digests of layers to look at: their files are joined with each other and with
	// those of all other layers, which stay as they are among themselves; nil: all layers.
	Only []string
	// DryRun finds out what would be joined, and joins nothing; no content is read.
	DryRun bool
	// Progress, which may be nil, is told of files looked at, by one goroutine at a time.
	Progress func(Event)

	// inMemory is how many files are kept in memory at once; 0: filesInMemory.
	inMemory int64
}

// Event is how far a run is: files of the listings, of all there are.
type Event struct {
	Files, Total int64
	// Bytes is what was joined so far.
	Bytes int64
}

// Report is what a run did, or with DryRun would do.
type Report struct {
	// Files were joined with others of the same content, Bytes of their content for the first time:
	// so much the disk got back.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	// Before counts the bytes of content that lay on the disk together with another file's already.
	Before int64 `json:"before_bytes"`
	// Skipped are files that the file system would not join: of a few bytes kept in
	// the inode, or in use as swap.
	Skipped int64 `json:"skipped"`
	// Damaged are at most 20 pairs of files that their layers' listings say are the same and are not.
	Damaged []string `json:"damaged,omitempty"`
}

// filesInMemory bounds what a pass over the listings keeps: about 200 bytes for each.
const filesInMemory = 1 << 18

const maxDamaged = 20

// Run joins files of layers. Layers may be added and removed meanwhile. It blocks for as long
// as reading twice what is joined takes; a canceled ctx ends it, with what was joined so far reported.
func Run(ctx context.Context, store *images.Store, o Options) (Report, error) {
	if err := supported(store.Dir()); err != nil {
		return Report{}, err
	}
	layers, err := store.Layers(ctx)
	if err != nil {
		return Report{}, err
	}
	r := &run{store: store, o: o}
	var old, news []images.Layer
	for _, l := range layers {
		if o.Only == nil || slices.Contains(o.Only, l.Digest) {
			news = append(news, l)
			r.event.Total += l.Files
		} else {
			old = append(old, l)
		}
	}
	// A pass takes the files whose hashes begin with certain bytes.
	limit := o.inMemory
	if limit == 0 {
		limit = filesInMemory
	}
	passes := min(256, 1+r.event.Total/limit)
	for i := range passes {
		if err = r.pass(ctx, old, news, func(s treesum.Sum) bool { return int64(s[0])%passes == i }); err != nil {
			break
		}
	}
	if r.rep.Damaged != nil {
		slices.Sort(r.rep.Damaged)
	}
	if err != nil {
		return r.rep, fmt.Errorf("joining files of layers: %w", err)
	}
	return r.rep, nil
}

// supported makes two files without names and joins them.
func supported(dir string) error {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Open(filepath.Join(dir, "tmp"), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("%w (%v)", ErrUnsupported, err) //nolint:errorlint // it is only told
		}
		defer unix.Close(fd)
		if _, err := unix.Pwrite(fd, make([]byte, probe), 0); err != nil {
			return err
		}
		fds[i] = fd
	}
	switch err := dedupe(fds[0], fds[1], 0, probe); err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL, unix.EXDEV, unix.ENOSYS:
		return ErrUnsupported
	default:
		return fmt.Errorf("asking whether files can share blocks: %w", err)
	}
}

// probe is a size in bytes that every file system gives whole blocks.
const probe = 64 << 10

// key is what two files have in common whose content is the same.
type key struct {
	sum  treesum.Sum
	size int64
}

// place is where a file lies.
type place struct{ digest, path string }

func (p place) String() string { return fmt.Sprintf("%.12s:/%s", p.digest, p.path) }

type run struct {
	store *images.Store
	o     Options

	mu    sync.Mutex // guards what follows
	rep   Report
	event Event
}

// pass joins the files whose hashes are of interest.
func (r *run) pass(ctx context.Context, old, news []images.Layer, of func(treesum.Sum) bool) error {
	first := map[key]place{}
	wanted := map[key]bool{}
	if len(old) > 0 {
		for _, l := range news {
			err := r.files(l.Digest, func(_ string, k key) error {
				if of(k.sum) {
					wanted[k] = true
				}
				return ctx.Err()
			})
			if err != nil {
				return err
			}
		}
	}
	for _, l := range old {
		err := r.files(l.Digest, func(path string, k key) error {
			if wanted[k] {
				if _, known := first[k]; !known {
					first[k] = place{l.Digest, path}
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range news {
		err := r.files(l.Digest, func(path string, k key) error {
			if !of(k.sum) {
				return ctx.Err()
			}
			here := place{l.Digest, path}
			there, known := first[k]
			if !known {
				first[k] = here
				r.seen()
				return ctx.Err()
			}
			g.Go(func() error {
				defer r.seen()
				return r.join(ctx, there, here, k.size)
			})
			return ctx.Err()
		})
		if err != nil {
			return errors.Join(g.Wait(), err)
		}
	}
	return g.Wait()
}

// files calls each for the files of a layer that have content. A layer that is gone has none.
func (r *run) files(digest string, each func(path string, k key) error) error {
	l, err := r.store.Listing(digest)
	if errors.Is(err, images.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("layer %.12s: %w", digest, err)
	}
	defer l.Close()
	err = treesum.Files(l, func(path string, size int64, sum treesum.Sum) error {
		if size == 0 {
			return nil
		}
		return each(path, key{sum, size})
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the listing of layer %.12s: %w", digest, err)
	}
	return err
}

func (r *run) seen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.Files++
	r.event.Bytes = r.rep.Bytes
	if r.o.Progress != nil {
		r.o.Progress(r.event)
	}
}

// join gives the file at here the blocks of the one at there.
func (r *run) join(ctx context.Context, there, here place, size int64) error {
	src, err := r.open(there)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(src)
	dst, err := r.open(here)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(dst)
	a, err := extents(src)
	if err != nil {
		return fmt.Errorf("%v: asking where it lies: %w", there, err)
	}
	b, err := extents(dst)
	if err != nil {
		return fmt.Errorf("%v: asking where it lies: %w", here, err)
	}
	if same(a, b) {
		r.add(func(rep *Report) { rep.Before += content(b, size) })
		return nil
	}
	if slices.ContainsFunc(a, func(e extent) bool { return e.fixed }) || slices.ContainsFunc(b, func(e extent) bool { return e.fixed }) {
		r.add(func(rep *Report) { rep.Skipped++ })
		return nil
	}
	done := Report{Files: 1}
	for _, e := range b {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(e.length, size-e.at)
		if n <= 0 {
			continue // reserved beyond the end
		}
		if !r.o.DryRun {
			if err := dedupe(src, dst, e.at, n); err != nil {
				return r.refused(there, here, err)
			}
		}
		if e.shared {
			done.Before += n
		} else {
			done.Bytes += n
		}
	}
	r.add(func(rep *Report) {
		rep.Files += done.Files
		rep.Bytes += done.Bytes
		rep.Before += done.Before
	})
	return nil
}

// refused sorts the errors of the kernel.
func (r *run) refused(there, here place, err error) error {
	switch err {
	case errDiffers:
		r.add(func(rep *Report) {
			if len(rep.Damaged) < maxDamaged {
				rep.Damaged = append(rep.Damaged, fmt.Sprintf("%v and %v", there, here))
			}
		})
		return nil
	case unix.EINVAL, unix.EPERM, unix.EACCES, unix.ETXTBSY, unix.EXDEV:
		r.add(func(rep *Report) { rep.Skipped++ })
		return nil
	}
	return fmt.Errorf("%v with %v: %w", here, there, err)
}

func (r *run) add(to func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to(&r.rep)
}

func (r *run) open(p place) (int, error) {
	root, err := onefs.OpenRoot(r.store.LayerDir(p.digest))
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err := onefs.OpenAt(root, p.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return -1, fmt.Errorf("%v: %w", p, err)
	}
	return fd, nil
}

// gone forgives that a layer was removed meanwhile, or is damaged: to find that is not for us.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

// same says that two files lie on the same blocks.
func same(a, b []extent) bool {
	return slices.EqualFunc(a, b, func(a, b extent) bool {
		return a.at == b.at && a.disk == b.disk && a.length == b.length && !a.fixed && !b.fixed
	})
}

// content counts the bytes of a file's content in its pieces.
func content(list []extent, size int64) (n int64) {
	for _, e := range list {
		n += max(0, min(e.length, size-e.at))
	}
	return n
}
