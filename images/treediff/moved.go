package treediff

import (
	"context"

	"rubus/images/layered"
)

// gone is what was removed, by what it was: directories by the topmost one they
// are merged of.
type gone map[layered.ID]*layered.Node

// finish tells of what was added and removed. Among what was added it finds first
// what was removed elsewhere: a directory that shows the same directories of the
// layers, and a file that is, or was copied from, one of them. A directory found is
// compared with what it was.
func (c *comparer) finish(ctx context.Context) error {
	lost := gone{}
	indexed := 0
	index := func() error {
		if c.plain {
			return nil
		}
		for ; indexed < len(c.removed); indexed++ {
			err := Walk(ctx, c.a, c.removed[indexed], func(n *layered.Node) error {
				if n.IsDir() {
					lost[n.Parts()[0]] = n
				} else {
					lost[n.ID()] = n
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	moved := map[string]bool{} // paths before of what was found again
	var files []*layered.Node
	for len(c.added) > 0 {
		if err := index(); err != nil {
			return err
		}
		n := c.added[len(c.added)-1]
		c.added = c.added[:len(c.added)-1]
		if !n.IsDir() {
			files = append(files, n)
			continue
		}
		old := lost.dir(n)
		if old == nil || moved[old.Path] {
			c.out = append(c.out, Change{Path: n.Path, Kind: Added, Type: TypeOf(n), New: n})
			below, err := c.list(c.b, n)
			if err != nil {
				return err
			}
			c.added = append(c.added, below...)
			continue
		}
		moved[old.Path] = true
		if err := c.object(ctx, old, n, old.Path); err != nil {
			return err
		}
		if err := c.contents(ctx, old, n); err != nil {
			return err
		}
	}
	// What is left of a directory that was found again is not gone.
	lost = gone{}
	for _, top := range c.removed {
		if c.plain {
			break
		}
		err := c.walkGone(ctx, top, moved, func(n *layered.Node) { lost[n.ID()] = n })
		if err != nil {
			return err
		}
	}
	for _, n := range files {
		old := lost.file(c.b, n)
		if old == nil || moved[old.Path] {
			c.out = append(c.out, Change{Path: n.Path, Kind: Added, Type: TypeOf(n), After: size(n), New: n})
			continue
		}
		moved[old.Path] = true
		if err := c.object(ctx, old, n, old.Path); err != nil {
			return err
		}
	}
	for _, top := range c.removed {
		err := c.walkGone(ctx, top, moved, func(n *layered.Node) {
			c.out = append(c.out, Change{Path: n.Path, Kind: Removed, Type: TypeOf(n), Before: size(n), Old: n})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dir is the removed directory that n was; nil: none.
func (g gone) dir(n *layered.Node) *layered.Node {
	if len(g) == 0 {
		return nil
	}
	for _, id := range n.Parts() {
		if old := g[id]; old != nil && layered.MovedFrom(n, old) {
			return old
		}
	}
	return nil
}

// file is the removed file that n was; nil: none.
func (g gone) file(v *layered.View, n *layered.Node) *layered.Node {
	if len(g) == 0 {
		return nil
	}
	old := g[n.ID()]
	if old == nil && v.InUpper(n) {
		if id, ok := v.Origin(n); ok {
			old = g[id]
		}
	}
	if old == nil || TypeOf(old) != TypeOf(n) {
		return nil
	}
	return old
}

// walkGone calls f for n and all below it, but for what was found again: what is
// gone of a directory was found when it was compared.
func (c *comparer) walkGone(ctx context.Context, n *layered.Node, moved map[string]bool, f func(*layered.Node)) error {
	if moved[n.Path] {
		return ctx.Err()
	}
	f(n)
	if !n.IsDir() {
		return ctx.Err()
	}
	below, err := c.list(c.a, n)
	if err != nil {
		return err
	}
	for _, s := range below {
		if err := c.walkGone(ctx, s, moved, f); err != nil {
			return err
		}
	}
	return nil
}

// Walk calls f for n and all that is below it, a directory before what it holds.
func Walk(ctx context.Context, v *layered.View, n *layered.Node, f func(*layered.Node) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f(n); err != nil {
		return err
	}
	if !n.IsDir() {
		return nil
	}
	list, err := v.List(n)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := Walk(ctx, v, s, f); err != nil {
			return err
		}
	}
	return nil
}
