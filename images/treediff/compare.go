package treediff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
)

// Compare says how the tree after differs from before, sorted by path. What both
// share, a layer or an object of it, is not looked into: it takes time for what
// differs. Of a tree that changes meanwhile, names that go away are taken as
// removed. A renamed directory is one change, with those below it beside. told, when not nil, is
// called with how many names were seen so far.
func Compare(ctx context.Context, before, after *layered.View, told func(names int64)) ([]Change, error) {
	return compare(ctx, &comparer{a: before, b: after, told: told})
}

// Plain is Compare without renames: what has another name now is removed and added, a
// directory with all that is below it.
func Plain(ctx context.Context, before, after *layered.View) ([]Change, error) {
	return compare(ctx, &comparer{a: before, b: after, plain: true})
}

func compare(ctx context.Context, c *comparer) ([]Change, error) {
	before, after := c.a, c.b
	x, err := before.Root()
	if err != nil {
		return nil, err
	}
	y, err := after.Root()
	if err != nil {
		return nil, err
	}
	if err := c.dirs(ctx, x, y); err != nil {
		return nil, err
	}
	if err := c.finish(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(c.out, func(p, q Change) int { return strings.Compare(p.Path, q.Path) })
	return c.out, nil
}

type comparer struct {
	a, b *layered.View
	out  []Change
	// removed and added are the tops of trees that only one of the two has.
	removed, added []*layered.Node
	plain          bool
	told           func(names int64) // may be nil
	seen           int64
}

// list lists a directory of one of the two.
func (c *comparer) list(v *layered.View, dir *layered.Node) ([]*layered.Node, error) {
	names, err := v.List(dir)
	if c.seen += int64(len(names)); c.told != nil {
		c.told(c.seen)
	}
	return names, err
}

// dirs compares two directories and what they hold.
func (c *comparer) dirs(ctx context.Context, x, y *layered.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if layered.Same(c.a, x, c.b, y) {
		return nil
	}
	if err := c.object(ctx, x, y, ""); err != nil {
		return err
	}
	return c.contents(ctx, x, y)
}

// contents compares what two directories hold.
func (c *comparer) contents(ctx context.Context, x, y *layered.Node) error {
	if layered.Same(c.a, x, c.b, y) {
		return ctx.Err()
	}
	olds, err := c.list(c.a, x)
	if err != nil {
		return err
	}
	news, err := c.list(c.b, y)
	if err != nil {
		return err
	}
	// Both are sorted; a renamed directory has other paths, so names count.
	for len(olds) > 0 || len(news) > 0 {
		order := 0
		switch {
		case len(olds) == 0:
			order = 1
		case len(news) == 0:
			order = -1
		default:
			order = strings.Compare(base(olds[0].Path), base(news[0].Path))
		}
		switch {
		case order < 0:
			c.removed = append(c.removed, olds[0])
			olds = olds[1:]
		case order > 0:
			c.added = append(c.added, news[0])
			news = news[1:]
		default:
			if err := c.pair(ctx, olds[0], news[0]); err != nil {
				return err
			}
			olds, news = olds[1:], news[1:]
		}
	}
	return nil
}

func base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// pair compares what has one name in both trees.
func (c *comparer) pair(ctx context.Context, x, y *layered.Node) error {
	switch {
	case x.IsDir() && y.IsDir():
		return c.dirs(ctx, x, y)
	case x.IsDir():
		return c.replaced(ctx, x, y)
	case y.IsDir():
		return c.replaced(ctx, x, y)
	}
	return c.object(ctx, x, y, "")
}

// replaced is a directory that became something else, or the other way: what
// was below is gone, what is below is new.
func (c *comparer) replaced(ctx context.Context, x, y *layered.Node) error {
	c.out = append(c.out, Change{Path: y.Path, Kind: Changed, Type: TypeOf(y), What: []string{Type}, Before: size(x), After: size(y), Old: x, New: y})
	if x.IsDir() {
		below, err := c.list(c.a, x)
		if err != nil {
			return err
		}
		c.removed = append(c.removed, below...)
		return ctx.Err()
	}
	below, err := c.list(c.b, y)
	c.added = append(c.added, below...)
	return err
}

// object compares two objects but not what is below. from says that y was x under
// that name.
func (c *comparer) object(ctx context.Context, x, y *layered.Node, from string) error {
	what, err := c.differences(ctx, x, y)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
			err = nil // it went away while the board runs
		}
		return err
	}
	ch := Change{Path: y.Path, Type: TypeOf(y), What: what, Before: size(x), After: size(y), Old: x, New: y}
	switch {
	case from != "":
		ch.Kind, ch.From = Renamed, from
	case len(what) == 0:
		return nil
	case slices.Contains(what, Content), slices.Contains(what, Type):
		ch.Kind = Changed
	default:
		ch.Kind = Metadata
	}
	c.out = append(c.out, ch)
	return nil
}

func (c *comparer) differences(ctx context.Context, x, y *layered.Node) (what []string, err error) {
	if !x.IsDir() && layered.Same(c.a, x, c.b, y) {
		return nil, nil
	}
	s, t := &x.Stat, &y.Stat
	if s.Mode&unix.S_IFMT != t.Mode&unix.S_IFMT {
		return []string{Type}, nil
	}
	other, err := c.otherContent(ctx, x, y)
	if err != nil {
		return nil, err
	}
	if other {
		what = append(what, Content)
	}
	if s.Mode != t.Mode {
		what = append(what, Mode)
	}
	if s.Uid != t.Uid || s.Gid != t.Gid {
		what = append(what, Owner)
	}
	// A directory's time says that a name in it changed, which is told there.
	if s.Mtim != t.Mtim && !x.IsDir() {
		what = append(what, Time)
	}
	xa, err := c.a.Xattrs(x)
	if err != nil {
		return nil, err
	}
	ya, err := c.b.Xattrs(y)
	if err != nil {
		return nil, err
	}
	if !maps.Equal(xa, ya) {
		what = append(what, Xattrs)
	}
	return what, nil
}

func (c *comparer) otherContent(ctx context.Context, x, y *layered.Node) (bool, error) {
	switch x.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.otherBytes(ctx, x, y)
	case unix.S_IFLNK:
		s, err := c.a.Readlink(x)
		if err != nil {
			return false, err
		}
		t, err := c.b.Readlink(y)
		return s != t, err
	case unix.S_IFCHR, unix.S_IFBLK:
		return x.Stat.Rdev != y.Stat.Rdev, nil
	}
	return false, nil
}

// otherBytes says whether two regular files hold different bytes.
func (c *comparer) otherBytes(ctx context.Context, x, y *layered.Node) (bool, error) {
	if x.Stat.Size != y.Stat.Size {
		return true, nil
	}
	f, err := c.a.Open(x)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := c.b.Open(y)
	if err != nil {
		return false, err
	}
	defer g.Close()
	same, err := SameBytes(ctx, f, g, y.Stat.Size)
	if err != nil {
		return false, fmt.Errorf("comparing %q: %w", "/"+y.Path, err)
	}
	return !same, nil
}
