package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// Adopt makes a version that another store had, under the number that it had there; its layers
// are here. With tag, its name alone means it, unless the name has a tag. A version that is here
// already, of the same layers, is no error: made says whether it was not.
func (s *Store) Adopt(ctx context.Context, v Version, tag bool) (made bool, err error) {
	b, err := json.MarshalIndent(manifest{manifestFormat, v}, "", "  ")
	if err != nil {
		return false, err
	}
	if v.Ref.Version < 1 {
		return false, fmt.Errorf("adopting %q: it has no number", v.Ref)
	}
	if _, err := parseManifest(v.Ref, b); err != nil {
		return false, err
	}
	release, err := s.change(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	s.step(StepLocked)
	for _, l := range v.Layers {
		if _, err := os.Lstat(s.LayerDir(l.Digest)); err != nil {
			return false, fmt.Errorf("adopting %s: layer %.12s: %w", v.Ref, l.Digest, err)
		}
	}
	var files []struct{ path, data string }
	have, err := s.load(v.Ref)
	switch {
	case errors.Is(err, ErrNotFound):
		next, err := s.nextVersion(v.Ref.Name)
		if err != nil {
			return false, err
		}
		files = append(files,
			struct{ path, data string }{nextPath(v.Ref.Name), strconv.Itoa(max(next, v.Ref.Version+1)) + "\n"},
			struct{ path, data string }{manifestPath(v.Ref), string(b) + "\n"})
		made = true
	case err != nil:
		return false, err
	case !slices.Equal(digests(have), digests(v)):
		return false, fmt.Errorf("adopting %s: this store has another version of that name, with other layers: %w", v.Ref, fs.ErrExist)
	}
	before, err := s.tag(v.Ref.Name)
	if err != nil {
		return false, err
	}
	if tag && before == 0 {
		files = append(files, struct{ path, data string }{tagPath(v.Ref.Name), strconv.Itoa(v.Ref.Version) + "\n"})
	}
	if len(files) == 0 {
		return false, nil
	}
	var j journal
	for _, f := range files {
		r, err := s.stage(f.path, f.data)
		if err != nil {
			return false, err
		}
		j.Renames = append(j.Renames, r)
	}
	return made, s.commit(j)
}
