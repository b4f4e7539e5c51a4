package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Layers are all layers that the store has, whether a version names them or not. One
// that nothing can be read about has its digest alone.
func (s *Store) Layers(ctx context.Context) ([]Layer, error) {
	release, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	dirs, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return nil, fmt.Errorf("listing layers: %w", err)
	}
	out := []Layer{}
	for _, d := range dirs {
		if !validDigest(d.Name()) {
			continue // not ours
		}
		l, _ := s.layer(d.Name()) // it has the digest in any case
		out = append(out, l)
	}
	return out, nil
}

// Listing opens the listing of a layer (see treesum) as it was made: what it says was true
// then, and nothing is checked here. A layer that is gone is ErrNotFound.
func (s *Store) Listing(digest string) (io.ReadCloser, error) {
	if !validDigest(digest) {
		return nil, fmt.Errorf("layer %q: %w", digest, ErrNotFound)
	}
	f, err := os.Open(filepath.Join(s.dir, layerPath(digest), "listing.zst"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("layer %.12s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &listingFile{z, f}, nil
}

type listingFile struct {
	z *zstd.Decoder
	f *os.File
}

// Read implements io.Reader.
func (l *listingFile) Read(b []byte) (int, error) { return l.z.Read(b) }

// Close implements io.Closer.
func (l *listingFile) Close() error {
	l.z.Close()
	return l.f.Close()
}
