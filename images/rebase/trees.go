package rebase

import (
	"context"
	"path/filepath"

	"rubus/images/layered"
	"rubus/images/upper"
)

// Open opens the three trees of a rebase: the layers a board wrote over, with its
// upper, and those it is to move to.
func Open(was []string, upperDir string, next []string) (t Trees, done func(), err error) {
	var open []*layered.View
	done = func() {
		for _, v := range open {
			v.Close()
		}
	}
	for _, c := range []struct {
		v    **layered.View
		open func() (*layered.View, error)
	}{
		{&t.Was, func() (*layered.View, error) { return layered.Open(was) }},
		{&t.Board, func() (*layered.View, error) { return layered.OpenUpper(was, upperDir) }},
		{&t.Next, func() (*layered.View, error) { return layered.Open(next) }},
	} {
		if *c.v, err = c.open(); err != nil {
			done()
			return Trees{}, nil, err
		}
		open = append(open, *c.v)
	}
	return t, done, nil
}

// Build fills a new upper, the directory to, by the plan, and compares what is then over the layers
// of next with it. board says that the board's holds where both changed something.
func (p *Plan) Build(ctx context.Context, to string, next []string, t Trees, board bool, progress func(upper.Size)) error {
	_, err := upper.Build(ctx, to, upper.Delta{
		Base: t.Next, Was: t.Was, Tree: t.Board, Changes: p.Changes(board), Content: p.Content(),
	}, progress)
	if err != nil {
		return err
	}
	result, err := layered.OpenUpper(next, filepath.Dir(to))
	if err != nil {
		return err
	}
	defer result.Close()
	return p.Check(ctx, result, board)
}

// WillHave says whether there is anything at a path when the plan was carried out.
func (p *Plan) WillHave(t Trees, path string) bool {
	for _, c := range p.Changes(true) {
		if c.Path == path {
			return c.New != nil
		}
	}
	n, err := t.Next.Lookup(path)
	return err == nil && n != nil
}
