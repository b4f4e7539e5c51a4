package importer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"rubus/images"
	"rubus/images/importer/layer"
	"rubus/images/importer/source"
	"rubus/images/importer/tarball"
)

// Stream is a tarball that becomes one layer, with what it hides of the layers
// below written as the OCI image specification has it.
type Stream struct {
	// Open opens it, packed or not. Size is its length in bytes, 0 while unknown.
	Open func() (io.ReadCloser, error)
	Size int64
	// DiffID is the SHA-256 of the tarball unpacked, in hex; "": not known.
	DiffID string
	// Chain names what it and all below are made of; "": don't look whether it is there.
	Chain string
}

// ImportStreams makes the next version of an image out of tarballs, the bottom one
// first. from says what they are of. A layer of the same Chain that the store has
// is not read again. Otherwise it is Import.
func ImportStreams(ctx context.Context, store *images.Store, name, from, format string, layers []Stream, o Options) (images.Version, Report, error) {
	v, rep, err := runStreams(ctx, store, name, from, layers, o)
	rep.Format = format
	if err != nil {
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		return images.Version{}, Report{}, fmt.Errorf("importing %q: %w", from, err)
	}
	return v, rep, nil
}

func runStreams(ctx context.Context, store *images.Store, name, from string, layers []Stream, o Options) (v images.Version, rep Report, err error) {
	st, err := newStack(store, name, o, false)
	if err != nil {
		return v, rep, err
	}
	defer st.close(&rep, &err)
	for _, l := range layers {
		st.meter.Total.Add(l.Size)
	}
	for i, l := range layers {
		if o.Base != nil || !o.Devices.KeepsAll() {
			l.Chain = "" // what lies below, or what is kept, is something else
		}
		if err := st.stream(ctx, l); err != nil {
			return v, rep, fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err)
		}
		if n := len(st.base) + len(st.built); n > images.MaxLayers {
			return v, rep, fmt.Errorf("%d layers with files are more than the %d that every kernel mounts: squash the image", n, images.MaxLayers)
		}
	}
	return st.finish(ctx, images.NewVersion{Name: name, Source: from}, rep)
}

// stream makes a layer of a tarball, unless it is empty or there.
func (s *stack) stream(ctx context.Context, l Stream) error {
	if there, ok := s.store.ByChain(l.Chain); ok {
		s.built = append(s.built, images.Built{Digest: there.Digest})
		s.meter.Read.Add(l.Size)
		return nil
	}
	in, err := l.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	src, err := source.OpenStream(ctx, in)
	if err != nil {
		return err
	}
	defer src.Close()
	if src.Disk {
		return fmt.Errorf("it is a disk image and no layer")
	}
	before := s.meter.Read.Load()
	taken := src.Taken
	src.Taken = func() int64 { return before + taken() }
	src.Total = s.meter.Total.Load()
	sum := sha256.New()
	src.Stream = io.TeeReader(src.Stream, sum)
	empty := false
	err = s.add(ctx, l.Chain, func(b *layer.Builder) error {
		if err := tarball.CopyLayer(b, src); err != nil {
			return err
		}
		empty = len(b.Root.Children) == 0
		return nil
	})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); l.DiffID != "" && got != l.DiffID {
		return fmt.Errorf("its content has the SHA-256 %s, and the image says %s: it is damaged, or another one", got, l.DiffID)
	}
	if last := len(s.built) - 1; empty && last > 0 {
		err = s.built[last].Pending.Abort()
		s.built = s.built[:last]
	}
	return err
}
