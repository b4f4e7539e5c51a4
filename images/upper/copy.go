package upper

import (
	"context"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/layered"
)

// Size is what a copy holds.
type Size struct {
	// Bytes is content, without holes; what is shared with the first (reflink)
	// counts too.
	Bytes int64 `json:"bytes"`
	// Files counts names, directories too; hard links of one file count once.
	Files int64 `json:"files"`
}

// Copy copies the upper in the directory from, which holds "upper" and may hold
// "work", over the layers, the bottom one first, to the empty directory to,
// whose attributes become those of the upper. Nobody may write to the upper meanwhile.
// progress, which may be nil, is told how much has been copied. It blocks until all is
// on the disk; after an error to holds a part that is of no use.
func Copy(ctx context.Context, layers []string, from, to string, progress func(Size)) (Size, error) {
	v, err := layered.OpenUpper(layers, from)
	if err != nil {
		return Size{}, err
	}
	defer v.Close()
	dst, err := onefs.OpenRoot(to)
	if err != nil {
		return Size{}, fmt.Errorf("copying an upper: %w", err)
	}
	defer unix.Close(dst)
	src, err := onefs.OpenRoot(path.Join(from, "upper"))
	if err != nil {
		return Size{}, fmt.Errorf("copying an upper: %w", err)
	}
	defer unix.Close(src)
	if progress == nil {
		progress = func(Size) {}
	}
	c := &copier{ctx: ctx, v: v, src: src, dst: dst, progress: progress, linked: map[layered.ID]string{}}
	if err := c.run(); err != nil {
		return Size{}, fmt.Errorf("copying an upper: %w", err)
	}
	return c.size, nil
}

type copier struct {
	ctx      context.Context //nolint:containedctx // lives as long as one call
	v        *layered.View
	src, dst int
	// linked is where the copy has the first name of an inode with several.
	linked map[layered.ID]string
	// dirs get their attributes when nothing is made in them any more.
	dirs     []dirAttrs
	noClone  bool // the file systems share no content
	size     Size
	progress func(Size)
}

type dirAttrs struct {
	path   string
	st     unix.Stat_t
	xattrs map[string]string
}

func (c *copier) run() error {
	if err := c.tree(); err != nil {
		return err
	}
	if err := c.aliases(); err != nil {
		return err
	}
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := c.finishDir(c.dirs[i]); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(c.dst); err != nil {
		return fmt.Errorf("bringing it to the disk: %w", err)
	}
	return nil
}

// keepAttr says whether the copy gets an attribute.
func keepAttr(name string) bool {
	switch name {
	case "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.protattr":
		return true
	}
	return !layered.IsOverlayAttr(name)
}

// tree copies what the upper itself has.
func (c *copier) tree() error {
	todo := []string{""}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		sub, err := c.dir(dir)
		if err != nil {
			return err
		}
		todo = append(todo, sub...)
	}
	return nil
}

func (c *copier) dir(p string) (sub []string, err error) {
	in, err := onefs.OpenDir(c.src, p)
	if err != nil {
		return nil, at(p, err)
	}
	defer unix.Close(in)
	st, err := onefs.Fstat(in)
	if err != nil {
		return nil, at(p, err)
	}
	x, err := onefs.Xattrs(in, keepAttr)
	if err != nil {
		return nil, at(p, err)
	}
	out, err := c.makeDir(p, st, x)
	if err != nil {
		return nil, err
	}
	defer unix.Close(out)
	names, err := onefs.List(in)
	if err != nil {
		return nil, at(p, err)
	}
	for _, e := range names {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(p, e.Name)
		if e.Type == unix.DT_DIR {
			sub = append(sub, full)
		} else if err := c.object(in, e.Name, false, out, e.Name, full); err != nil {
			return nil, at(full, err)
		}
	}
	return sub, nil
}

// makeDir makes a directory of the copy and opens it. Its attributes are set at the end.
func (c *copier) makeDir(p string, st unix.Stat_t, xattrs map[string]string) (int, error) {
	if p != "" {
		parent, err := onefs.OpenDir(c.dst, path.Dir(p))
		if err != nil {
			return -1, at(p, err)
		}
		err = unix.Mkdirat(parent, path.Base(p), 0o700)
		unix.Close(parent)
		if err != nil {
			return -1, at(p, err)
		}
		c.size.Files++
	}
	c.dirs = append(c.dirs, dirAttrs{p, st, xattrs})
	fd, err := onefs.OpenDir(c.dst, p)
	if err != nil {
		return -1, at(p, err)
	}
	return fd, nil
}

func (c *copier) finishDir(d dirAttrs) error {
	fd, err := onefs.OpenDir(c.dst, d.path)
	if err != nil {
		return at(d.path, err)
	}
	defer unix.Close(fd)
	return at(d.path, setAttrs(fd, &d.st, d.xattrs))
}

// aliases makes the names that only the index tells of.
func (c *copier) aliases() error {
	root, err := c.v.Root()
	if err != nil {
		return err
	}
	return c.aliasesBelow([]*layered.Node{root})
}

// aliasesBelow looks into the last of chain, a directory with all above it.
func (c *copier) aliasesBelow(chain []*layered.Node) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	list, err := c.v.List(chain[len(chain)-1])
	if err != nil {
		return err
	}
	for _, n := range list {
		switch {
		case n.IsDir() && c.v.MayHaveAliases(n):
			if err := c.aliasesBelow(append(chain[:len(chain):len(chain)], n)); err != nil {
				return err
			}
		case n.Indexed():
			if err := c.alias(chain, n); err != nil {
				return at(n.Path, err)
			}
		}
	}
	return nil
}

func (c *copier) alias(chain []*layered.Node, n *layered.Node) error {
	for i, d := range chain {
		_, has := c.v.UpperPath(d)
		if has || i == 0 || c.made(d.Path) {
			continue
		}
		x, err := c.v.Xattrs(d)
		if err != nil {
			return err
		}
		fd, err := c.makeDir(d.Path, d.Stat, x)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	out, err := onefs.OpenDir(c.dst, path.Dir(n.Path))
	if err != nil {
		return err
	}
	defer unix.Close(out)
	index, name := c.v.IndexFile(n)
	return c.object(index, name, true, out, path.Base(n.Path), n.Path)
}

// made says whether the copy has a directory that the upper has not.
func (c *copier) made(p string) bool {
	var st unix.Stat_t
	fd, err := onefs.OpenAt(c.dst, p, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, &st) == nil
}

func at(p string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		return fmt.Errorf("a path that begins with %q is longer than %d bytes: %w", "/"+p[:min(len(p), 80)], onefs.MaxPath, err)
	}
	return fmt.Errorf("%q: %w", "/"+p, err)
}
