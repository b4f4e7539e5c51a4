package upper

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
	"rubus/images/treediff"
)

// ErrForeign says that an upper was written over other layers, of which those here are
// copies, and that it may have names that only its index could tell.
var ErrForeign = errors.New("it was written over layers of which those here are copies")

// native is an error when names of an upper may be lost because the index says nothing: of
// a golden file with several names some show what the layers have, and others do not, or a
// file was written by its handle alone.
func native(layers []string, v *layered.View) error {
	lost, lone := v.Lost()
	if lost == 0 {
		return nil
	}
	if lone > 0 {
		return fmt.Errorf("%w: %d files of it have no name but one that its index knew", ErrForeign, lone)
	}
	golden, err := layered.Open(layers)
	if err != nil {
		return err
	}
	defer golden.Close()
	root, err := golden.Root()
	if err != nil {
		return err
	}
	names := map[layered.ID][]string{}
	err = treediff.Walk(context.Background(), golden, root, func(n *layered.Node) error {
		if !n.IsDir() && n.Stat.Nlink > 1 {
			names[n.ID()] = append(names[n.ID()], n.Path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, paths := range names {
		shown := ""
		count := 0
		for _, p := range paths {
			n, err := v.Lookup(p)
			switch {
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			case err != nil:
				return err
			case n.ID() == id:
				shown = p
				count++
			}
		}
		if count > 0 && count < len(paths) {
			return fmt.Errorf("%w: what %q holds can no more be told", ErrForeign, "/"+shown)
		}
	}
	return nil
}
