package upper

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/layered"
	"rubus/images/treediff"
)

// Delta says what to build: changes of a tree, to lie over a base.
type Delta struct {
	// Base is what the result will lie on.
	Base *layered.View
	// Was is the tree that the changes were made to, Tree the one with the changes.
	Was, Tree *layered.View
	// Changes are those of treediff.Plain from Was to Tree that are wanted.
	Changes []treediff.Change
	// Content is, by path, what regular files are to hold instead of what Tree has.
	Content map[string][]byte
}

// Build makes an upper, or a layer, in the empty directory to: what is mounted of it over
// Base shows the changes, and of all else what Base has. There are whiteouts for
// what was removed, and no other attributes of overlayfs, so it can lie anywhere.
// Names of one inode that are all in the changes stay hard links. Nobody may write to
// the trees meanwhile. It blocks until all is on the disk.
func Build(ctx context.Context, to string, d Delta, progress func(Size)) (Size, error) {
	dst, err := onefs.OpenRoot(to)
	if err != nil {
		return Size{}, fmt.Errorf("building a layer: %w", err)
	}
	defer unix.Close(dst)
	if progress == nil {
		progress = func(Size) {}
	}
	b := &builder{
		copier: copier{ctx: ctx, v: d.Tree, src: -1, dst: dst, progress: progress, linked: map[layered.ID]string{}},
		d:      d, own: map[string]treediff.Change{}, put: map[string]byte{},
	}
	if err := b.run(); err != nil {
		return Size{}, fmt.Errorf("building a layer: %w", err)
	}
	return b.size, nil
}

type builder struct {
	copier

	d   Delta
	own map[string]treediff.Change // the changes by path
	put map[string]byte            // what the result has: isDir, isOther or isWhiteout
}

const (
	isDir = iota + 1
	isOther
	isWhiteout
)

func (b *builder) run() error {
	for _, c := range b.d.Changes {
		b.own[c.Path] = c
	}
	if err := b.dir(""); err != nil {
		return err
	}
	for _, c := range b.d.Changes {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		if err := b.change(c); err != nil {
			return at(c.Path, err)
		}
	}
	for i := len(b.dirs) - 1; i >= 0; i-- {
		if err := b.finishDir(b.dirs[i]); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(b.dst); err != nil {
		return fmt.Errorf("bringing it to the disk: %w", err)
	}
	return nil
}

func (b *builder) change(c treediff.Change) error {
	if b.isCovered(c.Path) {
		return nil
	}
	if c.Kind == treediff.Removed {
		return b.remove(c.Path)
	}
	if c.New.IsDir() {
		return b.dir(c.Path)
	}
	if err := b.dir(parent(c.Path)); err != nil {
		return err
	}
	out, err := onefs.OpenDir(b.dst, parent(c.Path))
	if err != nil {
		return err
	}
	defer unix.Close(out)
	in, name, err := b.d.Tree.OpenParent(c.New)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	b.put[c.Path] = isOther
	if text, ok := b.d.Content[c.Path]; ok {
		return b.text(out, c, text)
	}
	return b.object(in, name, c.New.Indexed(), out, path.Base(c.Path), c.Path)
}

// isCovered says that a directory above is none in the result: what is below it is hidden.
func (b *builder) isCovered(p string) bool {
	for p != "" {
		p = parent(p)
		if k := b.put[p]; k == isOther || k == isWhiteout {
			return true
		}
	}
	return false
}

// remove makes a whiteout where the base has something.
func (b *builder) remove(p string) error {
	_, err := b.d.Base.Lookup(p)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.dir(parent(p)); err != nil {
		return err
	}
	out, err := onefs.OpenDir(b.dst, parent(p))
	if err != nil {
		return err
	}
	defer unix.Close(out)
	b.put[p] = isWhiteout
	b.size.Files++
	return unix.Mknodat(out, path.Base(p), unix.S_IFCHR, 0)
}

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// dir makes a directory of the result, with those above it.
func (b *builder) dir(p string) error {
	if b.put[p] == isDir {
		return nil
	}
	if p != "" {
		if err := b.dir(parent(p)); err != nil {
			return err
		}
	}
	st, x, err := b.dirAttrs(p)
	if err != nil {
		return err
	}
	fd, err := b.makeDir(p, st, x)
	if err != nil {
		return err
	}
	b.put[p] = isDir
	return unix.Close(fd)
}

// dirAttrs is what a directory of the result is to look like: as in the tree if that
// is one of the changes, or the base has none; else as in the base, but for its time
// when names in it have changed.
func (b *builder) dirAttrs(p string) (st unix.Stat_t, x map[string]string, err error) {
	tree, err := lookupDir(b.d.Tree, p)
	if err != nil {
		return st, nil, err
	}
	base, err := lookupDir(b.d.Base, p)
	if err != nil {
		return st, nil, err
	}
	was, err := lookupDir(b.d.Was, p)
	if err != nil {
		return st, nil, err
	}
	_, own := b.own[p]
	switch {
	case tree != nil && (own || base == nil):
		x, err = b.d.Tree.Xattrs(tree)
		return tree.Stat, x, err
	case base == nil:
		return st, nil, fmt.Errorf("there is no directory %q: %w", "/"+p, unix.ENOTDIR)
	}
	st = base.Stat
	if tree != nil && (was == nil || tree.Stat.Mtim != was.Stat.Mtim) {
		st.Mtim = tree.Stat.Mtim
	}
	x, err = b.d.Base.Xattrs(base)
	return st, x, err
}

// lookupDir finds a directory; nil: there is none.
func lookupDir(v *layered.View, p string) (*layered.Node, error) {
	n, err := v.Lookup(p)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && !n.IsDir() {
		return nil, nil //nolint:nilnil // as it says
	}
	return n, err
}

// text makes a regular file with content of its own.
func (b *builder) text(out int, c treediff.Change, text []byte) error {
	fd, err := onefs.OpenAt(out, path.Base(c.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for rest := text; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	b.size.Files++
	b.size.Bytes += int64(len(text))
	x, err := b.d.Tree.Xattrs(c.New)
	if err != nil {
		return err
	}
	return setAttrs(fd, &c.New.Stat, x)
}
