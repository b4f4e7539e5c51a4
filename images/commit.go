package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images/imageref"
	"rubus/images/treesum"
)

// Built is a layer of a version that is to be made.
type Built struct {
	// Pending is a new one, with its entries, sorted as treesum does, and the bytes of its content.
	Pending *Pending
	Entries []treesum.Entry
	Bytes   int64
	// Chain is what it was made of, so that Store.ByChain finds it again; "" for none.
	Chain string
	// Digest names one that the store has, when Pending is nil.
	Digest string
}

// Commit makes layers, the bottom one first, a new version, and moves the tag. A layer
// with the same digest that is there already is used instead; shared counts those.
// It blocks until all is on the disk. After an error nothing has changed, or (when the disk
// failed in the middle) the change is finished later; the caller still aborts what was pending.
func (s *Store) Commit(ctx context.Context, nv NewVersion, layers []Built) (v Version, shared int, err error) {
	ref, err := imageref.Parse(nv.Name)
	if err != nil || ref.Version != 0 {
		return Version{}, 0, errors.Join(err, fmt.Errorf("image %q: a new version needs a name without a number", nv.Name))
	}
	made := make([]newLayer, 0, len(layers))
	for _, b := range layers {
		n := newLayer{pending: b.Pending}
		if b.Pending == nil {
			n.layer, err = s.layer(b.Digest)
		} else {
			n.layer = Layer{Bytes: b.Bytes, Files: int64(len(b.Entries) - 1)}
			n.layer.Digest, err = b.Pending.describe(b.Entries, layerFile{Layer: n.layer, Chain: b.Chain})
		}
		if err != nil {
			return Version{}, 0, fmt.Errorf("describing the layer: %w", err)
		}
		made = append(made, n)
	}
	// All of the layers is on the disk before anything names them.
	for _, n := range made {
		if n.pending != nil {
			if err := unix.Syncfs(n.pending.tree); err != nil {
				return Version{}, 0, fmt.Errorf("writing the layer to the disk: %w", err)
			}
			break // they are on one file system
		}
	}
	s.step(StepSynced)
	v, err = s.commitLayers(ctx, ref, nv, made)
	decided := false
	if err != nil {
		decided, _ = s.journalled()
	} else {
		s.step(StepCommitted)
	}
	for _, n := range made {
		switch {
		case n.pending == nil:
			shared++
		case n.shared && err == nil:
			shared++
			// The version is made; what isn't removed here is swept at the next Open.
			_ = n.pending.Abort()
		case err == nil || decided:
			n.pending.end() // the tree is no longer ours to remove
		}
	}
	if err != nil {
		return Version{}, 0, fmt.Errorf("making a version of %q: %w", nv.Name, err)
	}
	return v, shared, nil
}

// Keep puts a new layer into the store that no version names yet: a step of a build that may be
// wanted again, found by its Chain. GC removes it. It ends the pending layer like a commit.
func (s *Store) Keep(ctx context.Context, b Built) (Layer, error) {
	l := Layer{Bytes: b.Bytes, Files: int64(len(b.Entries) - 1)}
	var err error
	if l.Digest, err = b.Pending.describe(b.Entries, layerFile{Layer: l, Chain: b.Chain}); err != nil {
		return l, fmt.Errorf("describing the layer: %w", err)
	}
	if err := unix.Syncfs(b.Pending.tree); err != nil {
		return l, fmt.Errorf("writing the layer to the disk: %w", err)
	}
	s.step(StepSynced)
	release, err := s.change(ctx)
	if err != nil {
		return l, err
	}
	defer release()
	s.step(StepLocked)
	if _, err := os.Lstat(s.LayerDir(l.Digest)); err == nil {
		if have, err := s.layerFile(l.Digest); err == nil && have.Chain == b.Chain {
			now := s.Now()
			_ = os.Chtimes(s.chainFile(l.Digest), now, now) // else an older one may be found, or made again
		}
		return l, b.Pending.Abort()
	}
	err = s.commit(journal{Renames: []rename{{b.Pending.tmp.rel, layerPath(l.Digest)}}})
	if decided, _ := s.journalled(); err == nil || decided {
		b.Pending.end()
	}
	if err != nil {
		return l, fmt.Errorf("keeping layer %.12s: %w", l.Digest, err)
	}
	s.step(StepCommitted)
	return l, nil
}

// newLayer is a layer that a change is about to name.
type newLayer struct {
	layer   Layer
	pending *Pending // nil: it is there
	shared  bool     // the store has it already
}

func (s *Store) commitLayers(ctx context.Context, ref imageref.Ref, nv NewVersion, made []newLayer) (Version, error) {
	release, err := s.change(ctx)
	if err != nil {
		return Version{}, err
	}
	defer release()
	s.step(StepLocked)
	var layers []Layer
	if nv.Base != nil {
		// It may have been removed, layers and all, since the caller resolved it.
		base, err := s.load(nv.Base.Ref)
		if err != nil {
			return Version{}, fmt.Errorf("the base: %w", err)
		}
		layers = slices.Clone(base.Layers)
	}
	var j journal
	if layers, err = s.stack(layers, made, &j); err != nil {
		return Version{}, err
	}
	n, err := s.nextVersion(ref.Name)
	if err != nil {
		return Version{}, err
	}
	v := Version{
		Ref: ref.At(n), Created: s.Now().UTC(), Source: nv.Source, Message: nv.Message,
		Layers: layers, Boot: nv.Boot,
	}
	b, err := json.MarshalIndent(manifest{manifestFormat, v}, "", "  ")
	if err != nil {
		return Version{}, err
	}
	if _, err := parseManifest(v.Ref, b); err != nil {
		return Version{}, err
	}
	files := []struct{ path, data string }{
		{nextPath(ref.Name), strconv.Itoa(n+1) + "\n"},
		{manifestPath(v.Ref), string(b) + "\n"},
		{tagPath(ref.Name), strconv.Itoa(n) + "\n"},
	}
	if nv.NoTag {
		files = files[:2]
	}
	for _, f := range files {
		r, err := s.stage(f.path, f.data)
		if err != nil {
			return Version{}, err
		}
		j.Renames = append(j.Renames, r)
	}
	return v, s.commit(j)
}

// stack puts new layers on those below, and into j what moves them to their place. A
// layer that is the one it would lie on changes nothing and is left out. The kernel takes no
// directory twice as a lower one.
func (s *Store) stack(layers []Layer, made []newLayer, j *journal) ([]Layer, error) {
	for i := range made {
		n := &made[i]
		digest := n.layer.Digest
		if len(layers) > 0 && layers[len(layers)-1].Digest == digest {
			n.shared = true
			continue
		}
		if slices.ContainsFunc(layers, func(l Layer) bool { return l.Digest == digest }) {
			return nil, fmt.Errorf("layer %.12s would be in the stack twice", digest)
		}
		layers = append(layers, n.layer)
		_, err := os.Lstat(s.LayerDir(digest))
		n.shared = err == nil
		switch {
		case err == nil:
		case n.pending == nil:
			return nil, fmt.Errorf("layer %.12s was removed meanwhile: try again", digest)
		default:
			j.Renames = append(j.Renames, rename{n.pending.tmp.rel, layerPath(digest)})
		}
	}
	if len(layers) > MaxLayers {
		return nil, fmt.Errorf("%d layers are more than the %d that every kernel mounts", len(layers), MaxLayers)
	}
	return layers, nil
}

// MaxLayers is how many layers a version may have: as many as the options of one mount
// have room for on Linux 6.1.
const MaxLayers = 60

// layerFile is the file of a layer.
type layerFile struct {
	Layer
	Chain string `json:"chain,omitempty"`
}

// ByChain finds the layer that was committed, or kept, with this Chain; of several that of last.
func (s *Store) ByChain(chain string) (last Layer, ok bool) {
	names, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil || chain == "" {
		return last, false
	}
	var when time.Time
	for _, d := range names {
		l, err := s.layerFile(d.Name())
		if err != nil || l.Chain != chain {
			continue
		}
		st, err := os.Stat(s.chainFile(d.Name()))
		if err == nil && (!ok || st.ModTime().After(when)) {
			last, when, ok = l.Layer, st.ModTime(), true
		}
	}
	return last, ok
}

// chainFile has a layer's Chain; its time says when that was made last.
func (s *Store) chainFile(digest string) string {
	return filepath.Join(s.dir, layerPath(digest), "layer.json")
}
