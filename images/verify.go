package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// layer reads what is written down about a layer.
func (s *Store) layer(digest string) (Layer, error) {
	l, err := s.layerFile(digest)
	return l.Layer, err
}

func (s *Store) layerFile(digest string) (layerFile, error) {
	none := layerFile{Layer: Layer{Digest: digest}}
	b, err := os.ReadFile(filepath.Join(s.dir, layerPath(digest), "layer.json"))
	if err != nil {
		return none, fmt.Errorf("layer %.12s: %w", digest, err)
	}
	var l layerFile
	if err := json.Unmarshal(b, &l); err != nil || l.Digest != digest {
		return none, fmt.Errorf("layer %.12s: its layer.json is damaged", digest)
	}
	return l, nil
}

// DamagedError says how a layer differs from what it was.
type DamagedError struct {
	Digest string
	// Differences are the first ones, at most MaxDifferences; none when the
	// listing to compare with is damaged too.
	Differences []treesum.Difference
}

// MaxDifferences bounds DamagedError.Differences.
const MaxDifferences = 20

// Error implements error.
func (e *DamagedError) Error() string {
	var list []string
	for _, d := range e.Differences {
		list = append(list, d.String())
	}
	switch {
	case len(list) == 0:
		return fmt.Sprintf("layer %.12s is damaged: its content isn't what its name says", e.Digest)
	case len(list) > 3:
		list = append(list[:3], "and more")
	}
	return fmt.Sprintf("layer %.12s is damaged: %s", e.Digest, strings.Join(list, ", "))
}

// DigestTree reads the tree in dir and computes its digest, as defined in
// package treesum.
func DigestTree(ctx context.Context, dir string) (string, error) {
	entries, err := readTree(ctx, dir, nil)
	if err != nil {
		return "", err
	}
	return treesum.Write(nil, entries)
}

func readTree(ctx context.Context, dir string, progress func(int64)) ([]treesum.Entry, error) {
	fd, err := onefs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return treesum.Tree(ctx, fd, progress)
}

// Verify reads a whole layer and compares it with its digest: nil, a
// DamagedError, or what kept it from reading. progress, which may be nil, is
// told of content bytes as they are read, from several goroutines.
func (s *Store) Verify(ctx context.Context, digest string, progress func(bytes int64)) error {
	if !validDigest(digest) {
		return fmt.Errorf("layer %q: %w", digest, ErrNotFound)
	}
	entries, err := readTree(ctx, s.LayerDir(digest), progress)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("layer %.12s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("verifying layer %.12s: %w", digest, err)
	}
	var got bytes.Buffer
	sum, err := treesum.Write(&got, entries)
	if err != nil || sum == digest {
		return err
	}
	damaged := &DamagedError{Digest: digest}
	if want, err := s.listing(digest); err == nil {
		damaged.Differences, _ = treesum.Diff(bytes.NewReader(want), &got, MaxDifferences)
	}
	return damaged
}

// maxListing bounds the listing in memory, in bytes: room for millions of names.
const maxListing = 1 << 30

// listing reads a layer's listing as it was made, if it still is.
func (s *Store) listing(digest string) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.dir, layerPath(digest), "listing.zst"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	b, err := io.ReadAll(io.LimitReader(z, maxListing))
	if err != nil {
		return nil, err
	}
	if fmt.Sprintf("%x", sha256.Sum256(b)) != digest {
		return nil, fmt.Errorf("listing of layer %.12s is damaged", digest)
	}
	return b, nil
}
