package backupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/images/archive"
)

// goesOn is the chain that the next backup goes on from, when each file of it is whole as far
// as its lists tell, which costs next to nothing; else why it does not. The sums are
// looked at by prune.
func (t *target) goesOn(ctx context.Context) (chain []backupFile, err error) {
	chain = t.chain()
	for _, f := range chain {
		if err := whole(ctx, f.path, false, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if len(chain) == 0 && len(t.files)+len(t.damaged) > 0 {
		return nil, errors.New("what the newest one there goes on from is missing or damaged")
	}
	return chain, nil
}

// prune removes the oldest backups but for the newest n full ones that are whole, with what goes
// on from each: before anything is removed, those that stay are read again, to their last byte, from the
// disk. One that is damaged does not count, and is told of; it goes when n newer ones
// are whole. written is the name of the one just written.
func (t *target) prune(ctx context.Context, n int, written string, tell func(int64)) (removed []string, err error) {
	t.files, t.damaged = nil, nil
	if err := t.read(); err != nil {
		return nil, err
	}
	roots := map[string][]backupFile{} // what goes on from a full one, by its id
	var fulls []backupFile
	for _, f := range t.files {
		if f.head.Since == "" {
			fulls = append(fulls, f)
		}
		if chain := t.chainTo(f); chain != nil {
			roots[chain[0].head.ID] = append(roots[chain[0].head.ID], f)
		}
	}
	if len(fulls) <= n {
		return nil, nil
	}
	good := 0
	var oldest backupFile
	keep := map[string]bool{filepath.Join(t.dir, written): true}
	for _, full := range slices.Backward(fulls) {
		if good == n {
			break
		}
		isWhole := true
		for _, f := range roots[full.head.ID] {
			keep[f.path] = true
			if err := whole(ctx, f.path, true, tell); errors.Is(err, archive.ErrBroken) {
				t.damaged = append(t.damaged, damaged{f.path, err.Error()})
				isWhole = false
			} else if err != nil {
				return nil, fmt.Errorf("reading %s: %w", f.path, err)
			}
		}
		if isWhole {
			good++
			oldest = full
		}
	}
	if good < n {
		return nil, nil // each of the others may be needed
	}
	for _, f := range slices.Backward(t.files) { // what goes on from others first
		if keep[f.path] || !f.head.Made.Before(oldest.head.Made) {
			continue
		}
		if err := os.Remove(f.path); err != nil {
			return removed, err
		}
		removed = append(removed, f.path)
	}
	return removed, syncDir(t.dir)
}

// whole reads a backup to its end: all of it, and checks its sum, or its lists alone.
// The error wraps archive.ErrBroken when it is damaged.
func whole(ctx context.Context, path string, summed bool, tell func(int64)) error {
	in, err := openBackup(path)
	if err != nil {
		return err
	}
	defer in.Close()
	var r *archive.Reader
	if summed {
		_ = unix.Fadvise(int(in.f.Fd()), 0, 0, unix.FADV_DONTNEED) // what is on the disk, where that can be had
		r, err = archive.NewReader(&counting{ctx: ctx, in: in.r, tell: tell})
	} else {
		r, err = archive.NewLister(in.lister())
	}
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = r.Next()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// counting tells how much was read, and ends with its context.
type counting struct {
	ctx  context.Context //nolint:containedctx // lives as long as one call
	in   io.Reader
	n    int64
	tell func(int64)
}

func (c *counting) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.in.Read(b)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}
