package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/internal/onefs"
)

// Usage is what layers take of the disk.
type Usage struct {
	// Shared is, of each layer in their order, the bytes on blocks that another file has,
	// too, of this layer or of any other: they stay when the layer goes.
	Shared []int64
	// Once is how many bytes all of these blocks are, each counted once.
	Once int64
}

// Measure finds out which of the layers' blocks are shared, by asking for each file. Where
// the file system shares none it is ErrUnsupported. A layer that is gone has none.
func Measure(ctx context.Context, store *images.Store, digests []string) (Usage, error) {
	if err := supported(store.Dir()); err != nil {
		return Usage{}, err
	}
	u := Usage{Shared: make([]int64, len(digests))}
	var mu sync.Mutex
	var all blocks
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, d := range digests {
		g.Go(func() error {
			err := walk(ctx, store.LayerDir(d), func(e extent) {
				u.Shared[i] += e.length
				mu.Lock()
				defer mu.Unlock()
				all.add(e)
			})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("layer %.12s: asking where its files lie: %w", d, err)
			}
			return nil
		})
	}
	err := g.Wait()
	u.Once = all.total()
	return u, err
}

// walk calls each for the shared pieces of all files below a directory.
func walk(ctx context.Context, dir string, each func(extent)) error {
	root, err := onefs.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	linked := map[uint64]bool{} // inodes with several names
	for todo := []string{""}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		sub, err := walkDir(ctx, root, p, linked, each)
		if err != nil {
			return err
		}
		todo = append(todo, sub...)
	}
	return nil
}

func walkDir(ctx context.Context, root int, p string, linked map[uint64]bool, each func(extent)) (sub []string, err error) {
	fd, err := onefs.OpenDir(root, p)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	names, err := onefs.List(fd)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch n.Type {
		case unix.DT_DIR:
			sub = append(sub, path.Join(p, n.Name))
		case unix.DT_REG:
			if err := walkFile(fd, n.Name, linked, each); err != nil {
				return nil, err
			}
		}
	}
	return sub, nil
}

func walkFile(dir int, name string, linked map[uint64]bool, each func(extent)) error {
	fd, err := onefs.OpenAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil || st.Blocks == 0 || linked[st.Ino] {
		return err
	}
	if st.Nlink > 1 {
		linked[st.Ino] = true
	}
	list, err := extents(fd)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.shared && !e.fixed {
			each(e)
		}
	}
	return nil
}

// blocks collects pieces of a disk that may lie over each other.
type blocks struct {
	list   []extent
	merged int // how many there were after they were last put together
}

func (b *blocks) add(e extent) {
	b.list = append(b.list, e)
	// Memory stays bounded by the pieces that there really are.
	if len(b.list) > 1<<16+2*b.merged {
		b.merge()
	}
}

func (b *blocks) merge() {
	slices.SortFunc(b.list, func(a, b extent) int { return cmp.Compare(a.disk, b.disk) })
	out := b.list[:0]
	for _, e := range b.list {
		if n := len(out); n > 0 && e.disk <= out[n-1].disk+out[n-1].length {
			out[n-1].length = max(out[n-1].length, e.disk+e.length-out[n-1].disk)
			continue
		}
		out = append(out, e)
	}
	b.list, b.merged = out, len(out)
}

func (b *blocks) total() (n int64) {
	b.merge()
	for _, e := range b.list {
		n += e.length
	}
	return n
}
