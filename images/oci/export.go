package oci

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"rubus/images"
)

// Exported is what an export did.
type Exported struct {
	// Digest names the image, "sha256:…".
	Digest   string `json:"digest"`
	Platform string `json:"platform"`
	// Layers is their number, Bytes the size of all packed.
	Layers int   `json:"layers"`
	Bytes  int64 `json:"bytes"`
}

// Export writes a version to a registry, an OCI layout or an archive. The same version
// gives the same bytes each time. progress, which may be nil, is told of content bytes
// as they are packed. A registry that has a layer is not sent it again. A layout or archive is there
// as a whole and on the disk, or not at all.
func Export(ctx context.Context, store *images.Store, v images.Version, place string, o Options, progress func(int64)) (e Exported, err error) {
	if err := checkSecret(place); err != nil {
		return e, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("exporting %s to %q: %w", v.Ref, place, err)
		}
	}()
	if err := checkPlace(place, o); err != nil {
		return e, err
	}
	platform, err := platformFor(store.Files(v), o.Platform)
	if err != nil {
		return e, err
	}
	var layers []mutate.Addendum
	for _, l := range v.Layers {
		p, err := pack(ctx, store.LayerDir(l.Digest), filepath.Join(store.Dir(), "tmp"), progress)
		if err != nil {
			return e, err
		}
		defer p.file.Close()
		e.Bytes += p.size
		layers = append(layers, mutate.Addendum{
			Layer: p, MediaType: types.OCILayer,
			History: v1.History{Created: v1.Time{Time: v.Created}, CreatedBy: "rubus image export", Comment: "layer " + l.Digest},
		})
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, layers...)
	if err != nil {
		return e, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return e, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant, c.Created = platform.OS, platform.Architecture, platform.Variant, v1.Time{Time: v.Created}
	c.Config.Labels = map[string]string{"org.opencontainers.image.title": v.Ref.String(), "org.opencontainers.image.description": v.Message}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		return e, err
	}
	d, err := img.Digest()
	if err != nil {
		return e, err
	}
	e.Digest, e.Platform, e.Layers = d.String(), platform.String(), len(layers)
	return e, put(ctx, img, place, v, o)
}

func put(ctx context.Context, img v1.Image, place string, v images.Version, o Options) error {
	tag := v.Ref.Name + ":" + fmt.Sprint(v.Ref.Version)
	if ref, ok := strings.CutPrefix(place, registry); ok {
		r, err := parseReference(ref, o)
		if err != nil {
			return err
		}
		return explain(r, remote.Write(r, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)))
	}
	if file, ok := strings.CutPrefix(place, archive); ok {
		t, err := name.NewTag(tag)
		if err != nil {
			return err
		}
		s, err := newStage(file, o)
		if err != nil {
			return err
		}
		defer s.close()
		w, err := s.create("image")
		if err != nil {
			return err
		}
		if err := tarball.Write(t, img, w); err != nil {
			return err
		}
		return s.publish("image", file, o.Replace)
	}
	return writeLayout(img, strings.TrimPrefix(place, ociDir), fmt.Sprint(v.Ref.Version), o)
}

// checkPlace says before anything is packed that a target is taken.
func checkPlace(place string, o Options) error {
	if strings.HasPrefix(place, registry) {
		return nil
	}
	file, ok := strings.CutPrefix(place, archive)
	dir := strings.TrimPrefix(place, ociDir)
	err := error(nil)
	if ok {
		err = checkTarget(file, o.Replace)
	} else if _, there := os.Lstat(dir); there == nil {
		file, err = dir, errThere
	}
	if err != nil {
		// It may be there by an export that was killed when it was about to end.
		_ = (&stage{parent: filepath.Dir(file)}).sweep()
	}
	return err
}

// platformFor is the platform that was asked for, "linux/arm/v6", or else that of the programs of a root.
func platformFor(root fs.FS, asked string) (v1.Platform, error) {
	if asked == "" {
		arch := machine(root)
		if arch == "" {
			return v1.Platform{}, errors.New("which machine its programs are for can't be told: say with --platform")
		}
		return v1.Platform{OS: "linux", Architecture: arch}, nil
	}
	p, err := v1.ParsePlatform(asked)
	if err != nil || p.OS != "linux" || p.Architecture == "" || p.OSVersion != "" {
		return v1.Platform{}, fmt.Errorf("%q is no platform: want linux/arm64, linux/arm or linux/arm/v6", asked)
	}
	return *p, nil
}

// machine finds out what the programs of a root are for, in the words of OCI: "arm64",
// "arm", "amd64", or "" when that can't be told.
func machine(root fs.FS) string {
	for _, p := range []string{"usr/bin/env", "usr/bin/bash", "usr/bin/dash", "bin/busybox", "bin/sh", "usr/bin/dpkg", "sbin/init"} {
		f, err := root.Open(p)
		if err != nil {
			continue
		}
		r, ok := f.(io.ReaderAt)
		var e *elf.File
		if ok {
			e, err = elf.NewFile(r)
		}
		f.Close()
		if !ok || err != nil {
			continue
		}
		switch e.Machine {
		case elf.EM_AARCH64:
			return "arm64"
		case elf.EM_ARM:
			return "arm"
		case elf.EM_X86_64:
			return "amd64"
		}
	}
	return ""
}
