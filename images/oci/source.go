package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"rubus/images/importer"
)

// The kinds of places that images come from and go to.
const (
	registry = "docker://"
	ociDir   = "oci:"
	archive  = "docker-archive:"
)

// Is says whether a source or target names a container image: by its prefix, or a directory
// that is an OCI layout.
func Is(place string) bool {
	for _, p := range []string{registry, ociDir, archive} {
		if strings.HasPrefix(place, p) {
			return true
		}
	}
	_, err := os.Stat(filepath.Join(place, "oci-layout"))
	return err == nil
}

// Image is a container image that was found.
type Image struct {
	image v1.Image
	place string
}

// Options say which image, and how to reach it.
type Options struct {
	// Platform is "linux/arm64", "linux/arm" or one with a variant, as "linux/arm/v6"; "" takes
	// the first of them that there is, and of linux/arm the latest variant up to v7.
	Platform string
	// Insecure allows a registry without TLS, or with a certificate that nobody vouches for.
	Insecure bool
	// Replace allows Export to replace an archive that is there.
	Replace bool
	// Observe, when set, is called by Export whenever what is on the disk has changed. For tests.
	Observe func()
}

// Open finds the image. Credentials for a registry are those of "docker login" or "podman login".
func Open(ctx context.Context, place string, o Options) (*Image, error) {
	if err := checkSecret(place); err != nil {
		return nil, err
	}
	img, err := open(ctx, place, o)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", place, err)
	}
	for _, check := range []func(v1.Image) error{checkSizes, checkConfig, func(img v1.Image) error { return checkPlatform(img, o.Platform) }} {
		if err := check(img); err != nil {
			return nil, fmt.Errorf("opening %q: %w", place, err)
		}
	}
	return &Image{img, place}, nil
}

func open(ctx context.Context, place string, o Options) (v1.Image, error) {
	if ref, ok := strings.CutPrefix(place, registry); ok {
		return openRemote(ctx, ref, o)
	}
	if rest, ok := strings.CutPrefix(place, archive); ok {
		return openArchive(rest)
	}
	dir, tag := splitTag(strings.TrimPrefix(place, ociDir))
	p, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return nil, err
	}
	return choose(index, tag, o.Platform)
}

func parseReference(ref string, o Options) (name.Reference, error) {
	var opts []name.Option
	if o.Insecure {
		opts = append(opts, name.Insecure)
	}
	return name.ParseReference(ref, opts...)
}

func openRemote(ctx context.Context, ref string, o Options) (v1.Image, error) {
	r, err := parseReference(ref, o)
	if err != nil {
		return nil, err
	}
	d, err := remote.Get(r, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, explain(r, err)
	}
	if !d.MediaType.IsIndex() {
		return d.Image()
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	return choose(index, "", o.Platform)
}

// splitTag splits "DIR:TAG", where the name of DIR may hold a colon.
func splitTag(s string) (path, tag string) {
	if _, err := os.Stat(s); err == nil {
		return s, ""
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 && !strings.Contains(s[i:], "/") {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func openArchive(rest string) (v1.Image, error) {
	file, tag := splitTag(rest)
	var t *name.Tag
	if tag != "" {
		parsed, err := name.NewTag(tag)
		if err != nil {
			return nil, err
		}
		t = &parsed
	}
	return tarball.ImageFromPath(file, t)
}

// refName is the annotation by which a layout names its images.
const refName = "org.opencontainers.image.ref.name"

// choose finds the image of a platform in an index; tag names one of several.
func choose(index v1.ImageIndex, tag, platform string) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var have, tags []string
	for _, d := range m.Manifests {
		if t := d.Annotations[refName]; t != "" && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	if tag == "" && len(tags) > 1 {
		return nil, fmt.Errorf("it holds several images: say which, as \":TAG\" behind the directory: %s", strings.Join(tags, ", "))
	}
	best, bestRank := v1.Descriptor{}, 0
	for _, d := range m.Manifests {
		if tag != "" && d.Annotations[refName] != tag {
			continue
		}
		if d.MediaType.IsIndex() { // "docker buildx" puts one into a layout
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if err := checkSum("an index in it", inner, d.Digest); err != nil {
				return nil, err
			}
			return choose(inner, "", platform)
		}
		if !d.MediaType.IsImage() {
			continue
		}
		p := platformOf(d, index)
		if p == "unknown/unknown" { // what builders add about their work
			continue
		}
		have = append(have, p)
		if r := rank(p, platform); r > bestRank {
			best, bestRank = d, r
		}
	}
	switch {
	case bestRank > 0:
		img, err := index.Image(best.Digest)
		if err == nil {
			err = checkSum("its manifest", img, best.Digest)
		}
		return img, err
	case tag != "" && !slices.Contains(tags, tag):
		return nil, fmt.Errorf("it has no image %q, only %s", tag, strings.Join(tags, ", "))
	case platform != "" && !strings.HasPrefix(platform, "linux/arm"):
		return nil, fmt.Errorf("a Pi runs linux/arm64 or linux/arm, not %s", platform)
	case platform != "":
		return nil, fmt.Errorf("it is not there for %s, only for %s", platform, strings.Join(have, ", "))
	}
	return nil, fmt.Errorf("it is not there for a Pi (linux/arm64, linux/arm), only for %s", strings.Join(have, ", "))
}

// platformOf is what the index says, or the image's own configuration.
func platformOf(d v1.Descriptor, index v1.ImageIndex) string {
	if d.Platform != nil {
		return d.Platform.String()
	}
	img, err := index.Image(d.Digest)
	if err != nil {
		return ""
	}
	c, err := img.ConfigFile()
	if err != nil {
		return ""
	}
	return c.Platform().String()
}

// rank orders platforms: 0 is no Pi's, or not the one asked for.
func rank(p, want string) int {
	order := []string{"linux/arm/v5", "linux/arm/v6", "linux/arm", "linux/arm/v7", "linux/arm64", "linux/arm64/v8"}
	if want != "" && p != want && !strings.HasPrefix(p, want+"/") {
		return 0
	}
	return 1 + slices.Index(order, p)
}

// Bounds no real image comes near: what describes it is read into memory.
const (
	maxConfig = 8 << 20
	maxParts  = 1000 // layers of an image, most of them empty
)

// checkSum compares a manifest with what it is named by: for a registry that is done already, for
// a layout not.
func checkSum(what string, m interface{ RawManifest() ([]byte, error) }, named v1.Hash) error {
	b, err := m.RawManifest()
	if err != nil {
		return err
	}
	return sameSum(what, b, named)
}

func checkConfig(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	b, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	return sameSum("its configuration", b, m.Config.Digest)
}

func sameSum(what string, b []byte, named v1.Hash) error {
	got, _, err := v1.SHA256(bytes.NewReader(b))
	if err == nil && got != named {
		err = fmt.Errorf("%s has the digest %s and not %s: it is damaged, or another one", what, got, named)
	}
	return err
}

func checkSizes(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	if m.Config.Size > maxConfig {
		return fmt.Errorf("its configuration is said to have %d bytes: no image needs more than %d", m.Config.Size, maxConfig)
	}
	if len(m.Layers) > maxParts {
		return fmt.Errorf("it has %d layers: no image has more than %d", len(m.Layers), maxParts)
	}
	return nil
}

func checkPlatform(img v1.Image, want string) error {
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	p := c.Platform()
	if p == nil || rank(p.String(), want) == 0 {
		s := "an unknown platform"
		if p != nil {
			s = p.String()
		}
		if want != "" {
			return fmt.Errorf("it is for %s, not for %s", s, want)
		}
		return fmt.Errorf("it is for %s, and a Pi runs linux/arm64 or linux/arm", s)
	}
	return nil
}

// Layers are the image's, the bottom one first, to be read by importer.ImportStreams. Each is known
// by what the configuration says of its content, and that is compared when it is read.
func (i *Image) Layers() ([]importer.Stream, error) {
	layers, err := i.image.Layers()
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of %q: %w", i.place, err)
	}
	c, err := i.image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of %q: %w", i.place, err)
	}
	ids := c.RootFS.DiffIDs
	if len(ids) != len(layers) {
		return nil, fmt.Errorf("%q has %d layers, and its configuration names %d: it is damaged, or no image of a root", i.place, len(layers), len(ids))
	}
	var out []importer.Stream
	chain := ""
	for n, l := range layers {
		if ids[n].Algorithm != "sha256" {
			return nil, fmt.Errorf("%q has a layer named by %q", i.place, ids[n].Algorithm)
		}
		chain = nextChain(chain, ids[n].String())
		// An archive may not say.
		size, _ := l.Size()
		out = append(out, importer.Stream{
			Open: func() (io.ReadCloser, error) { return l.Compressed() },
			Size: size, DiffID: ids[n].Hex, Chain: chain,
		})
	}
	if len(out) == 0 {
		return nil, errors.New("the image has no layers")
	}
	return out, nil
}

// nextChain is the ChainID of the OCI image specification (config.md, "Layer
// ChainID"): it names a layer with all below.
func nextChain(below, diffID string) string {
	if below == "" {
		return diffID
	}
	sum := sha256.Sum256([]byte(below + " " + diffID))
	return "sha256:" + hex.EncodeToString(sum[:])
}
