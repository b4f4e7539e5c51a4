package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rubus/images/imageref"
)

// Paths relative to the store. Names come from imageref, so they are safe.
func manifestPath(ref imageref.Ref) string {
	return filepath.Join("manifests", ref.Name, strconv.Itoa(ref.Version)+".json")
}
func nextPath(name string) string { return filepath.Join("manifests", name, "next") }
func tagPath(name string) string  { return filepath.Join("tags", name) }

// Resolve gives the version that ref names: that of its number, or without one
// that of the tag. The error wraps ErrNotFound when there is none.
func (s *Store) Resolve(ref imageref.Ref) (Version, error) {
	release, err := s.read(context.Background())
	if err != nil {
		return Version{}, err
	}
	defer release()
	return s.resolve(ref)
}

// resolve is Resolve for those who hold the lock.
func (s *Store) resolve(ref imageref.Ref) (Version, error) {
	if ref.Version == 0 {
		n, err := s.tag(ref.Name)
		if err != nil {
			return Version{}, err
		}
		if n == 0 {
			return Version{}, s.notFound(ref)
		}
		ref = ref.At(n)
	}
	return s.load(ref)
}

// load reads one version and checks that its layers are there.
func (s *Store) load(ref imageref.Ref) (Version, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, manifestPath(ref)))
	if errors.Is(err, fs.ErrNotExist) {
		return Version{}, s.notFound(ref)
	}
	if err != nil {
		return Version{}, fmt.Errorf("reading the manifest of %q: %w", ref, err)
	}
	v, err := parseManifest(ref, b)
	if err != nil {
		return Version{}, err
	}
	for _, l := range v.Layers {
		if _, err := os.Lstat(s.LayerDir(l.Digest)); err != nil {
			return Version{}, fmt.Errorf("%q is damaged: layer %.12s is missing: %w", ref, l.Digest, err)
		}
	}
	return v, nil
}

// notFound makes the error with a hint of what is there.
func (s *Store) notFound(ref imageref.Ref) error {
	e := &NotFoundError{Ref: ref}
	have, err := s.numbers(ref.Name)
	switch names, nerr := s.names(); {
	case err != nil || nerr != nil:
	case len(have) > 0 && ref.Version == 0:
		e.hint = fmt.Sprintf("it has no tag; there is %s: set one with \"rubus image tag %s %s@%d\"",
			listVersions(ref.Name, have), ref.Name, ref.Name, have[len(have)-1])
	case len(have) > 0:
		e.hint = "there is " + listVersions(ref.Name, have)
	case len(names) > 0:
		e.hint = "there is " + strings.Join(names, ", ")
	default:
		e.hint = fmt.Sprintf("there are no images yet: \"rubus image import %s SOURCE\" makes one", ref.Name)
	}
	return e
}

func listVersions(name string, have []int) string {
	var out []string
	for _, n := range have[max(0, len(have)-5):] {
		out = append(out, fmt.Sprintf("%s@%d", name, n))
	}
	return strings.Join(out, ", ")
}

// tag reads the version a name means; 0: it has no tag.
func (s *Store) tag(name string) (int, error) { return s.number(tagPath(name)) }

// number reads a file of one number; 0: it isn't there.
func (s *Store) number(path string) (int, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the image store: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("the file %q is damaged: it holds no number", filepath.Join(s.dir, path))
	}
	return int(n), nil
}

// nextVersion is the number of the next version of an image, never used before.
func (s *Store) nextVersion(name string) (int, error) {
	next, err := s.number(nextPath(name))
	if err != nil {
		return 0, err
	}
	have, err := s.numbers(name)
	if err != nil {
		return 0, err
	}
	if len(have) > 0 {
		next = max(next, have[len(have)-1]+1)
	}
	return max(next, 1), nil
}

// names lists the images that have a version, sorted.
func (s *Store) names() ([]string, error) {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "manifests"))
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	var out []string
	for _, d := range dirs {
		if r, err := imageref.Parse(d.Name()); err != nil || r.Version != 0 {
			continue
		}
		have, err := s.numbers(d.Name())
		if err != nil {
			return nil, err
		}
		if len(have) > 0 {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// numbers lists an image's versions, the lowest first.
func (s *Store) numbers(name string) ([]int, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, "manifests", name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing versions of %q: %w", name, err)
	}
	var out []int
	for _, f := range files {
		n, ok := strings.CutSuffix(f.Name(), ".json")
		if r, err := imageref.Parse(name + "@" + n); ok && err == nil {
			out = append(out, r.Version)
		}
	}
	slices.Sort(out)
	return out, nil
}

// List gives all versions, by name and number. Those that can't be read are left
// out; the error says which and why, joined, beside the others.
func (s *Store) List() ([]Version, error) {
	release, err := s.read(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	return s.list()
}

func (s *Store) list() ([]Version, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var out []Version
	var errs []error
	for _, name := range names {
		have, err := s.numbers(name)
		if err != nil {
			return nil, err
		}
		for _, n := range have {
			v, err := s.load(imageref.Ref{Name: name, Version: n})
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.Ref.Name, b.Ref.Name), cmp.Compare(a.Ref.Version, b.Ref.Version))
	})
	return out, errors.Join(errs...)
}

// Tags gives the version that each name means.
func (s *Store) Tags() (map[string]int, error) {
	release, err := s.read(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	files, err := os.ReadDir(filepath.Join(s.dir, "tags"))
	if err != nil {
		return nil, fmt.Errorf("listing tags: %w", err)
	}
	out := make(map[string]int, len(files))
	for _, f := range files {
		if r, err := imageref.Parse(f.Name()); err != nil || r.Version != 0 {
			continue
		}
		if out[f.Name()], err = s.tag(f.Name()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Tag makes name mean one of its versions, and returns the number it meant
// before, 0 for none. Boards follow at their next boot.
func (s *Store) Tag(ctx context.Context, name string, version int) (before int, err error) {
	release, err := s.change(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	s.step(StepLocked)
	v, err := s.load(imageref.Ref{Name: name, Version: version})
	if err != nil {
		return 0, err
	}
	if before, err = s.tag(v.Ref.Name); err != nil {
		return 0, err
	}
	r, err := s.stage(tagPath(v.Ref.Name), strconv.Itoa(version)+"\n")
	if err != nil {
		return 0, err
	}
	return before, s.commit(journal{Renames: []rename{r}})
}
