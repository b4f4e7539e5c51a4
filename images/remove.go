package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/images/imageref"
)

// Expand gives the versions that references mean when something is removed: a
// name without a number means all versions of the image.
func (s *Store) Expand(refs ...imageref.Ref) ([]imageref.Ref, error) {
	release, err := s.read(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	return s.expand(refs)
}

func (s *Store) expand(refs []imageref.Ref) ([]imageref.Ref, error) {
	var out []imageref.Ref
	add := func(r imageref.Ref) {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, r := range refs {
		have, err := s.numbers(r.Name)
		if err != nil {
			return nil, err
		}
		if len(have) == 0 || r.Version != 0 && !slices.Contains(have, r.Version) {
			return nil, s.notFound(r)
		}
		if r.Version != 0 {
			add(r)
			continue
		}
		for _, n := range have {
			add(r.At(n))
		}
	}
	return out, nil
}

// Remove removes versions, all of them or none; their layers go with GC. A name without a number means
// all versions of the image. A version in use is an InUseError, one that the
// tag of remaining versions means a TaggedError. uses is called with the store locked and must not call it.
func (s *Store) Remove(ctx context.Context, refs []imageref.Ref, uses UsesFunc) ([]imageref.Ref, error) {
	release, err := s.change(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.step(StepLocked)
	gone, err := s.expand(refs)
	if err != nil {
		return nil, err
	}
	used, err := uses()
	if err != nil {
		return nil, fmt.Errorf("finding out what is in use: %w", err)
	}
	if err := s.unused(gone, used); err != nil {
		return nil, err
	}
	var j journal
	for _, r := range gone {
		tagged, err := s.tag(r.Name)
		if err != nil {
			return nil, err
		}
		if tagged == r.Version {
			have, err := s.numbers(r.Name)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(have, func(n int) bool { return !slices.Contains(gone, r.At(n)) }) {
				return nil, &TaggedError{Ref: r}
			}
			j.Removes = append(j.Removes, tagPath(r.Name))
		}
		j.Removes = append(j.Removes, manifestPath(r))
		next, err := s.nextVersion(r.Name)
		if err != nil {
			return nil, err
		}
		// A store whose counter was lost must not use the number again either.
		counter, err := s.stage(nextPath(r.Name), fmt.Sprintln(next))
		if err != nil {
			return nil, err
		}
		j.Renames = append(j.Renames, counter)
	}
	return gone, s.commit(j)
}

// unused says who uses any of the versions, by name or by the same stack of layers.
func (s *Store) unused(refs []imageref.Ref, uses []Use) error {
	var errs []error
	for _, r := range refs {
		var stack []string
		// A version that can't be read has no stack to compare with.
		if v, err := s.load(r); err == nil {
			stack = digests(v)
		}
		var who []string
		for _, u := range uses {
			switch {
			case u.Ref == r, u.Ref.IsZero() && len(stack) > 0 && slices.Equal(u.Layers, stack):
				who = append(who, u.Who)
			case u.Ref.Name == r.Name && u.Ref.Version == 0:
				if n, err := s.tag(r.Name); err != nil || n == r.Version {
					who = append(who, u.Who)
				}
			}
		}
		if len(who) > 0 {
			slices.Sort(who)
			errs = append(errs, &InUseError{Ref: r, Who: slices.Compact(who)})
		}
	}
	return errors.Join(errs...)
}

func digests(v Version) []string {
	out := make([]string, len(v.Layers))
	for i, l := range v.Layers {
		out[i] = l.Digest
	}
	return out
}

// Report is what GC did.
type Report struct {
	// Removed are the layers that went.
	Removed []Layer `json:"removed"`
	// Bytes is their size on disk.
	Bytes int64 `json:"bytes"`
	// Kept counts the layers that stay.
	Kept int `json:"kept"`
}

// Garbage gives what GC would remove now.
func (s *Store) Garbage(ctx context.Context, uses UsesFunc) (Report, error) {
	release, err := s.read(ctx)
	if err != nil {
		return Report{}, err
	}
	defer release()
	return s.garbage(uses)
}

// GC removes the layers that no version and no use names, and what dead
// processes left. It locks the store only to take the layers out of sight;
// removing them may take long, and is finished by the next GC or Open when it is
// cut off. Where a file system is mounted below a layer that part stays, and the error says where.
func (s *Store) GC(ctx context.Context, uses UsesFunc) (Report, error) {
	rep, tmp, err := s.hide(ctx, uses)
	if err != nil {
		return Report{}, err
	}
	if tmp != nil {
		s.step(StepCommitted)
		err = tmp.remove(s)
	}
	return rep, errors.Join(err, s.sweep(ctx))
}

// hide moves garbage to a directory in tmp/.
func (s *Store) hide(ctx context.Context, uses UsesFunc) (Report, *tmpDir, error) {
	release, err := s.change(ctx)
	if err != nil {
		return Report{}, nil, err
	}
	defer release()
	rep, err := s.garbage(uses)
	if err != nil || len(rep.Removed) == 0 {
		return rep, nil, err
	}
	tmp, err := s.newTmp("gc")
	if err != nil {
		return rep, nil, fmt.Errorf("removing layers: %w", err)
	}
	s.step(StepLocked)
	var j journal
	for _, l := range rep.Removed {
		j.Renames = append(j.Renames, rename{layerPath(l.Digest), filepath.Join(tmp.rel, l.Digest)})
	}
	if err := s.commit(j); err != nil {
		unix.Close(tmp.fd)
		return rep, nil, err
	}
	return rep, tmp, nil
}

// garbage finds the layers that nothing names. A manifest that can't be read
// stops it: its layers can't be told from garbage.
func (s *Store) garbage(uses UsesFunc) (Report, error) {
	named := make(map[string]bool)
	versions, err := s.list()
	if err != nil {
		return Report{}, fmt.Errorf("nothing is removed while a version can't be read: %w", err)
	}
	for _, v := range versions {
		for _, d := range digests(v) {
			named[d] = true
		}
	}
	used, err := uses()
	if err != nil {
		return Report{}, fmt.Errorf("finding out what is in use: %w", err)
	}
	for _, u := range used {
		for _, d := range u.Layers {
			named[d] = true
		}
	}
	dirs, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return Report{}, fmt.Errorf("listing layers: %w", err)
	}
	rep := Report{Removed: []Layer{}}
	for _, d := range dirs {
		switch {
		case !validDigest(d.Name()): // not ours
		case named[d.Name()]:
			rep.Kept++
		default:
			l, err := s.layer(d.Name())
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Report{}, err
			}
			rep.Removed = append(rep.Removed, l)
			rep.Bytes += l.Bytes
		}
	}
	return rep, nil
}
