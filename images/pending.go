package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

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

// Dir is the path of the tree's root, valid as long as Tree is.
func (p *Pending) Dir() string { return filepath.Join(p.s.dir, p.tmp.rel, "tree") }

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

// Commit is Store.Commit for one new layer.
func (p *Pending) Commit(ctx context.Context, nv NewVersion, entries []treesum.Entry, bytes int64) (Version, bool, error) {
	v, shared, err := p.s.Commit(ctx, nv, []Built{{Pending: p, Entries: entries, Bytes: bytes}})
	return v, shared == 1, err
}

// describe writes the files beside the tree and returns the digest.
func (p *Pending) describe(entries []treesum.Entry, l layerFile) (string, error) {
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
