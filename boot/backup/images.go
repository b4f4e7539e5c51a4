package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"rubus/images"
	"rubus/images/archive"
	"rubus/images/imageref"
	"rubus/images/treesum"
	"rubus/images/upper"
)

// stored is what a backup says of the image store.
type stored struct {
	Versions []images.Version `json:"versions"`
	Tags     map[string]int   `json:"tags"`
}

// images writes all versions, each layer once, in the order of digests.
func (w *writer) images() error {
	list, err := w.o.Store.List()
	if err != nil {
		return err
	}
	tags, err := w.o.Store.Tags()
	if err != nil {
		return err
	}
	if err := w.tar.Document(imagesDoc, stored{list, tags}); err != nil {
		return err
	}
	var layers []string
	for _, v := range list {
		for _, l := range v.Layers {
			layers = append(layers, l.Digest)
		}
	}
	slices.Sort(layers)
	for _, d := range slices.Compact(layers) {
		if err := w.layer(d); err != nil {
			return fmt.Errorf("layer %.12s: %w", d, err)
		}
	}
	return nil
}

func (w *writer) layer(digest string) error {
	name := layersTree + digest
	if w.since != nil {
		old, err := w.since.find(name)
		if err != nil {
			return err
		}
		if old != nil && old.id == digest {
			return w.tar.Same(name, digest)
		}
	}
	tree, err := upper.OpenPlain(w.o.Store.LayerDir(digest))
	if err != nil {
		return err
	}
	k, err := archive.TakeOpen(w.ctx, tree, digest, w.o.Now())
	if err != nil {
		return err
	}
	defer k.Close()
	return w.tar.Tree(w.ctx, name, k)
}

// layer takes a layer of a backup into the store, which it may have: it is what its
// digest says, or refused.
func (r *reader) layer(a *archive.Reader, m archive.Member) error {
	digest := strings.TrimPrefix(m.Name, layersTree)
	if _, err := os.Lstat(r.o.Store.LayerDir(digest)); err == nil {
		return nil
	}
	if m.Same {
		return fmt.Errorf("layer %.12s is in none of the backups: %w", digest, fs.ErrNotExist)
	}
	p, err := r.o.Store.Begin(r.ctx)
	if err != nil {
		return err
	}
	defer p.Abort() //nolint:errcheck // what is left is swept
	size, err := a.Extract(r.ctx, p.Dir(), "", r.telling("image layer "+digest[:min(12, len(digest))]))
	if err != nil {
		return err
	}
	entries, err := treesum.Tree(r.ctx, p.Tree(), nil)
	if err != nil {
		return err
	}
	sum, err := treesum.Write(nothing{}, entries)
	if err != nil {
		return err
	}
	if sum != digest {
		return fmt.Errorf("layer %.12s: %w: what it holds is layer %.12s", digest, archive.ErrBroken, sum)
	}
	_, err = r.o.Store.Keep(r.ctx, images.Built{Pending: p, Entries: entries, Bytes: size.Bytes})
	return err
}

type nothing struct{}

func (nothing) Write(b []byte) (int, error) { return len(b), nil }

// versions reads what the backup says of the image store.
func versions(doc []byte) (s stored, err error) {
	if doc == nil {
		return s, nil
	}
	if err := json.Unmarshal(doc, &s); err != nil {
		return s, fmt.Errorf("the images of the backup: %w", err)
	}
	return s, nil
}

// adopt makes the versions of a backup that are not here. One whose number another version
// has here gets a new one.
func adopt(ctx context.Context, store *images.Store, doc []byte) (made []imageref.Ref, err error) {
	s, err := versions(doc)
	if err != nil {
		return nil, err
	}
	for _, v := range s.Versions {
		ok, err := store.Adopt(ctx, v, s.Tags[v.Ref.Name] == v.Ref.Version)
		if errors.Is(err, fs.ErrExist) {
			have, lerr := store.List()
			if lerr != nil {
				return made, lerr
			}
			if slices.ContainsFunc(have, func(h images.Version) bool {
				return slices.EqualFunc(h.Layers, v.Layers, func(a, b images.Layer) bool { return a.Digest == b.Digest })
			}) {
				continue // it has a name here
			}
			for _, h := range have {
				if h.Ref.Name == v.Ref.Name && h.Ref.Version >= v.Ref.Version {
					v.Ref.Version = h.Ref.Version + 1
				}
			}
			ok, err = store.Adopt(ctx, v, false)
		}
		if err != nil {
			return made, err
		}
		if ok {
			made = append(made, v.Ref)
		}
	}
	return made, nil
}
