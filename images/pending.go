package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/imageref"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// Pending is a layer that is being made. Exactly one of Commit and Abort ends it.
type Pending struct {
	s    *Store
	tmp  *tmpDir
	tree int
}

// Begin starts a new layer: an empty tree that nobody else sees, and that is
// removed when the process ends without Commit.
func (s *Store) Begin(ctx context.Context) (*Pending, error) {
	release, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	tmp, err := s.newTmp("layer")
	if err != nil {
		return nil, fmt.Errorf("beginning a layer: %w", err)
	}
	err = unix.Mkdirat(tmp.fd, "tree", dirMode)
	tree := -1
	if err == nil {
		tree, err = onefs.OpenDir(tmp.fd, "tree")
	}
	if err != nil {
		_ = tmp.remove(s)
		return nil, fmt.Errorf("beginning a layer: %w", err)
	}
	s.step(StepBegun)
	return &Pending{s: s, tmp: tmp, tree: tree}, nil
}

// Tree is an open descriptor of the tree's root. It is valid until Commit or Abort.
func (p *Pending) Tree() int { return p.tree }

// Abort removes what was made. It does nothing after Commit or another Abort.
func (p *Pending) Abort() error {
	if p.tree < 0 {
		return nil
	}
	unix.Close(p.tree)
	p.tree = -1
	return p.tmp.remove(p.s)
}

// end gives the tree up without removing it.
func (p *Pending) end() {
	unix.Close(p.tree)
	unix.Close(p.tmp.fd)
	p.tree = -1
}

// NewVersion is what Commit makes a version of.
type NewVersion struct {
	Name            string
	Source, Message string
	// Base is the version to stack on; nil: the new layer stands alone.
	Base *Version
	Boot string
	// NoTag leaves the tag where it is.
	NoTag bool
}

// Commit makes the tree a layer and a new version of it, and moves the tag.
// entries are the tree's, sorted as treesum does. A layer with the same digest that is there already is
// used instead, which the bool says. It blocks until all is on the disk. After an error nothing
// has changed, or (when the disk failed in the middle) the change is finished later; Abort is still to be called.
func (p *Pending) Commit(ctx context.Context, nv NewVersion, entries []treesum.Entry, bytes int64) (Version, bool, error) {
	ref, err := imageref.Parse(nv.Name)
	if err != nil || ref.Version != 0 {
		return Version{}, false, errors.Join(err, fmt.Errorf("image %q: a new version needs a name without a number", nv.Name))
	}
	layer := Layer{Bytes: bytes, Files: int64(len(entries) - 1)}
	if layer.Digest, err = p.describe(entries, &layer); err != nil {
		return Version{}, false, fmt.Errorf("describing the layer: %w", err)
	}
	// All of the layer is on the disk before anything names it.
	if err := unix.Syncfs(p.tree); err != nil {
		return Version{}, false, fmt.Errorf("writing the layer to the disk: %w", err)
	}
	p.s.step(StepSynced)
	v, shared, err := p.commit(ctx, ref, nv, layer)
	if err != nil {
		if decided, _ := p.s.journalled(); decided {
			p.end() // the tree is no longer ours to remove
		}
		return Version{}, false, fmt.Errorf("making a version of %q: %w", nv.Name, err)
	}
	p.s.step(StepCommitted)
	if shared {
		// The version is made; what isn't removed here is swept at the next Open.
		_ = p.Abort()
	} else {
		p.end()
	}
	return v, shared, nil
}

func (p *Pending) commit(ctx context.Context, ref imageref.Ref, nv NewVersion, layer Layer) (Version, bool, error) {
	s := p.s
	release, err := s.change(ctx)
	if err != nil {
		return Version{}, false, err
	}
	defer release()
	s.step(StepLocked)
	var layers []Layer
	if nv.Base != nil {
		// It may have been removed, layers and all, since the caller resolved it.
		base, err := s.load(nv.Base.Ref)
		if err != nil {
			return Version{}, false, fmt.Errorf("the base: %w", err)
		}
		layers = slices.Clone(base.Layers)
	}
	n, err := s.nextVersion(ref.Name)
	if err != nil {
		return Version{}, false, err
	}
	v := Version{
		Ref: ref.At(n), Created: s.Now().UTC(), Source: nv.Source, Message: nv.Message,
		Layers: append(layers, layer), Boot: nv.Boot,
	}
	b, err := json.MarshalIndent(manifest{manifestFormat, v}, "", "  ")
	if err != nil {
		return Version{}, false, err
	}
	if _, err := parseManifest(v.Ref, b); err != nil {
		return Version{}, false, err
	}
	var j journal
	_, err = os.Lstat(s.LayerDir(layer.Digest))
	shared := err == nil
	if !shared {
		j.Renames = []rename{{p.tmp.rel, layerPath(layer.Digest)}}
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
			return Version{}, false, err
		}
		j.Renames = append(j.Renames, r)
	}
	return v, shared, s.commit(j)
}

// describe writes the files beside the tree and returns the digest.
func (p *Pending) describe(entries []treesum.Entry, l *Layer) (string, error) {
	dir := filepath.Join(p.s.dir, p.tmp.rel)
	f, err := os.OpenFile(filepath.Join(dir, "listing.zst"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest, err := compressListing(f, entries)
	if err != nil {
		return "", err
	}
	l.Digest = digest
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "layer.json"), append(b, '\n'), 0o600); err != nil {
		return "", err
	}
	return digest, f.Close()
}

func compressListing(w io.Writer, entries []treesum.Entry) (string, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return "", err
	}
	digest, err := treesum.Write(z, entries)
	return digest, errors.Join(err, z.Close())
}
