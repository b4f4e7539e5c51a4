package cli

import (
	"errors"
	"io/fs"
	"path/filepath"

	"rubus/cmd/internal/ui"
	"rubus/images"
	"rubus/images/imageref"
)

// ImageStore opens the store of the state directory.
func (g *Globals) ImageStore() (*images.Store, error) {
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	s, err := images.Open(filepath.Join(state, "images"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, ui.Hint(err, "images belong to root: try sudo")
	}
	return s, err
}

// ImageError adds what the error of a store knows to do about it.
func ImageError(err error) error {
	var h interface {
		error
		Hint() string
	}
	if errors.As(err, &h) && h.Hint() != "" {
		return ui.Hint(err, h.Hint())
	}
	return err
}

// ResolveImage finds the version that an argument names.
func ResolveImage(s *images.Store, arg string) (images.Version, error) {
	ref, err := imageref.Parse(arg)
	if err != nil {
		return images.Version{}, ui.Usage(err)
	}
	v, err := s.Resolve(ref)
	return v, ImageError(err)
}
