package oci_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/oci"
)

// imageFor makes an image that says what it is for, with one file that says it too.
func imageFor(t *testing.T, arch, variant string) v1.Image {
	t.Helper()
	in, err := layer(t, entry{name: "for", body: arch + variant}).Open()
	must(t, err)
	b, err := io.ReadAll(in)
	must(t, err)
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(b, types.OCIUncompressedLayer))
	must(t, err)
	c, err := img.ConfigFile()
	must(t, err)
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = "linux", arch, variant
	img, err = mutate.ConfigFile(img, c)
	must(t, err)
	return img
}

// indexOf makes an index of images for platforms, "arm/v7" and so on.
func indexOf(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		arch, variant, _ := strings.Cut(p, "/")
		os := "linux"
		if p == "unknown" { // what docker buildx adds about its work
			os = "unknown"
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: imageFor(t, arch, variant), Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant},
		}})
	}
	return index
}

// layoutOf writes an index as the only image of a layout, as "docker buildx build --output type=oci" does, or as the
// layout's own, as "skopeo copy --all" does.
func layoutOf(t *testing.T, index v1.ImageIndex, nested bool) string {
	t.Helper()
	if m, err := index.IndexManifest(); nested && err == nil && len(m.Manifests) > 0 {
		index = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	}
	dir := filepath.Join(t.TempDir(), "layout")
	_, err := layout.Write(dir, index)
	must(t, err)
	return "oci:" + dir
}

// Of an image for several machines the one for the Pi is taken, the 64-bit one first, of 32-bit ones
// the latest that every Pi of today runs; and any other when it is asked for.
func TestPlatforms(t *testing.T) {
	all := []string{"amd64", "unknown", "arm/v5", "arm/v7", "arm64/v8", "arm/v6", "riscv64", "arm64/v9"}
	for name, c := range map[string]struct {
		have     []string
		platform string
		want     string // what the file says, or an error
	}{
		"64 bits first":         {all, "", "arm64v8"},
		"64 bits, no variant":   {[]string{"arm/v7", "arm64"}, "", "arm64"},
		"32 bits":               {all, "linux/arm", "armv7"},
		"one variant":           {all, "linux/arm/v6", "armv6"},
		"64 bits by name":       {all, "linux/arm64", "arm64v8"},
		"only 32 bits":          {[]string{"amd64", "arm/v6", "arm/v7"}, "", "armv7"},
		"only an old one":       {[]string{"amd64", "arm/v6"}, "", "armv6"},
		"no variant of 32 bits": {[]string{"arm", "arm/v6"}, "linux/arm", "arm"},
		"for PCs only":          {[]string{"amd64", "unknown"}, "", "it is not there for a Pi (linux/arm64, linux/arm), only for linux/amd64"},
		"not that one":          {[]string{"arm64", "amd64"}, "linux/arm", "it is not there for linux/arm, only for linux/arm64, linux/amd64"},
		"not that variant":      {[]string{"arm/v7"}, "linux/arm/v6", "it is not there for linux/arm/v6, only for linux/arm/v7"},
		"a PC by name":          {all, "linux/amd64", "a Pi runs linux/arm64 or linux/arm, not linux/amd64"},
		"nothing":               {nil, "", "it is not there for a Pi"},
	} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprint(name, nested), func(t *testing.T) {
				img, err := oci.Open(t.Context(), layoutOf(t, indexOf(t, c.have...), nested), oci.Options{Platform: c.platform})
				if err != nil {
					if !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %q", err, c.want)
					}
					return
				}
				layers, err := img.Layers()
				must(t, err)
				s := store(t)
				v, _, err := importer.ImportStreams(t.Context(), s, "lab", "test", "container image", layers, importer.Options{})
				must(t, err)
				if b, err := os.ReadFile(filepath.Join(s.LayerDirs(v)[0], "for")); err != nil || string(b) != c.want {
					t.Errorf("it is for %q, %v; want %q", b, err, c.want)
				}
			})
		}
	}
}

// Of a layout with several images one must be named.
func TestSeveralImages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	must(t, err)
	for _, tag := range []string{"1", "2"} {
		must(t, p.AppendImage(imageFor(t, "arm64", ""), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})))
	}
	for tag, want := range map[string]string{"": "several images: say which, as \":TAG\" behind the directory: 1, 2", ":3": `no image "3", only 1, 2`, ":2": ""} {
		_, err := oci.Open(t.Context(), "oci:"+dir+tag, oci.Options{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", tag, err)
		}
	}
}

func packedLayer(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if kind == "zstd" {
		z, err := zstd.NewWriter(&out)
		must(t, err)
		w = z
	}
	_, err := w.Write(b)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

// lying is an image with one layer, whose configuration and manifest say what they are told to.
func lying(t *testing.T, blob []byte, change func(c *v1.ConfigFile)) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(blob, types.OCILayer))
	must(t, err)
	c, err := img.ConfigFile()
	must(t, err)
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "arm64"
	c.RootFS.DiffIDs[0] = contentID(blob)
	change(c)
	out, err := mutate.ConfigFile(img, c)
	must(t, err)
	return out
}

// Images that are not what they say, or more than anybody can have, are refused with words; what
// they unpack to is bounded, and nothing stays.
func TestHostileImages(t *testing.T) {
	ordinary := func(entries ...entry) []byte {
		in, err := layer(t, entries...).Open()
		must(t, err)
		b, err := io.ReadAll(in)
		must(t, err)
		return b
	}
	bomb := ordinary(entry{name: "bomb", body: strings.Repeat("bomb", 4<<20)})
	s := store(t)
	limits := importer.Options{MaxBytes: 1 << 20}
	for name, c := range map[string]struct {
		place func(t *testing.T) string
		want  string
	}{
		"a gzip bomb": {func(t *testing.T) string { return single(t, lying(t, packedLayer(t, "gzip", bomb), nothing)) }, "too big"},
		"a zstd bomb": {func(t *testing.T) string { return single(t, lying(t, packedLayer(t, "zstd", bomb), nothing)) }, "too big"},
		"zeros behind the end": {func(t *testing.T) string {
			return single(t, lying(t, packedLayer(t, "gzip", append(ordinary(entry{name: "x"}), make([]byte, 65<<20)...)), nothing))
		}, "follow the end of the archive"},
		"another content than its configuration says": {func(t *testing.T) string {
			return single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), func(c *v1.ConfigFile) {
				c.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
			}))
		}, "and the image says 0000"},
		"a layer named by no sum": {func(t *testing.T) string {
			return single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), func(c *v1.ConfigFile) {
				c.RootFS.DiffIDs[0] = v1.Hash{Algorithm: "md5", Hex: strings.Repeat("0", 32)}
			}))
		}, ""},
		"fewer names than layers": {func(t *testing.T) string {
			return single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), func(c *v1.ConfigFile) {
				c.RootFS.DiffIDs = nil
			}))
		}, "has 1 layers, and its configuration names 0"},
		"a blob that is another": {func(t *testing.T) string {
			place := single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), nothing))
			replaceBlob(t, place, packedLayer(t, "gzip", ordinary(entry{name: "y"})))
			return place
		}, "and the image says"},
		"a manifest that is another": {func(t *testing.T) string {
			place := single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), nothing))
			b, err := json.Marshal(manifestOf(t, place))
			must(t, err)
			index, err := layout.ImageIndexFromPath(strings.TrimPrefix(place, "oci:"))
			must(t, err)
			i, err := index.IndexManifest()
			must(t, err)
			must(t, os.WriteFile(blobFile(place, i.Manifests[0].Digest), append(b, ' '), 0o600))
			return place
		}, "its manifest has the digest"},
		"a configuration that is another": {func(t *testing.T) string {
			place := single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), nothing))
			must(t, os.WriteFile(blobFile(place, manifestOf(t, place).Config.Digest), []byte(`{"os":"linux","architecture":"arm64"}`), 0o600))
			return place
		}, "its configuration has the digest"},
		"a configuration without bounds": {func(t *testing.T) string {
			place := single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), nothing))
			changeManifest(t, place, func(m *v1.Manifest) { m.Config.Size = 1 << 40 })
			return place
		}, "no image needs more than"},
		"a thousand layers and more": {func(t *testing.T) string {
			place := single(t, lying(t, packedLayer(t, "gzip", ordinary(entry{name: "x"})), nothing))
			changeManifest(t, place, func(m *v1.Manifest) {
				for len(m.Layers) <= 1000 {
					m.Layers = append(m.Layers, m.Layers[0])
				}
			})
			return place
		}, "it has 1001 layers"},
		"a disk image as a layer": {func(t *testing.T) string {
			b := make([]byte, 1024)
			b[510], b[511], b[0] = 0x55, 0xaa, 0xeb
			return single(t, lying(t, b, nothing))
		}, "it is a disk image and no layer"},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := oci.Open(t.Context(), c.place(t), oci.Options{})
			if err == nil {
				var layers []importer.Stream
				if layers, err = img.Layers(); err == nil {
					_, _, err = importer.ImportStreams(t.Context(), s, "hostile", "test", "container image", layers, limits)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			for _, d := range []string{"tmp", "layers"} {
				if left, err := os.ReadDir(filepath.Join(s.Dir(), d)); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v, %v", d, left, err)
				}
			}
		})
	}
}

// Device nodes are kept, as those of a tarball: boards' roots are mounted nodev. More layers than
// a kernel mounts are refused when they are too many, not when all have been read.
func TestLayersWithDevices(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8, Mode: 0o666, Format: tar.FormatPAX}))
	must(t, w.Close())
	s := store(t)
	devices := importer.Stream{Open: func() (io.ReadCloser, error) { return io.NopCloser(&b), nil }}
	v, _, err := importer.ImportStreams(t.Context(), s, "lab", "test", "container image", []importer.Stream{devices}, importer.Options{})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(s.LayerDirs(v)[0], "dev/sda"), &st))
	if st.Mode != unix.S_IFBLK|0o666 || st.Rdev != unix.Mkdev(8, 0) {
		t.Errorf("mode %o, device %x", st.Mode, st.Rdev)
	}
	var many []importer.Stream
	for i := range images.MaxLayers + 5 {
		many = append(many, layer(t, entry{name: fmt.Sprint(i)}))
	}
	read := 0
	for i, open := range many {
		many[i].Open = func() (io.ReadCloser, error) { read++; return open.Open() }
	}
	_, _, err = importer.ImportStreams(t.Context(), s, "many", "test", "container image", many, importer.Options{})
	if err == nil || !strings.Contains(err.Error(), "squash the image") || read > images.MaxLayers+1 {
		t.Errorf("%d layers read, then %v", read, err)
	}
}

func nothing(*v1.ConfigFile) {}

func single(t *testing.T, img v1.Image) string {
	t.Helper()
	return layoutOf(t, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}), false)
}

// replaceBlob puts other bytes where a layer is.
func replaceBlob(t *testing.T, place string, b []byte) {
	t.Helper()
	m := manifestOf(t, place)
	must(t, os.WriteFile(blobFile(place, m.Layers[0].Digest), b, 0o600))
}

func blobFile(place string, h v1.Hash) string {
	return filepath.Join(strings.TrimPrefix(place, "oci:"), "blobs", h.Algorithm, h.Hex)
}

func manifestOf(t *testing.T, place string) *v1.Manifest {
	t.Helper()
	index, err := layout.ImageIndexFromPath(strings.TrimPrefix(place, "oci:"))
	must(t, err)
	i, err := index.IndexManifest()
	must(t, err)
	b, err := os.ReadFile(blobFile(place, i.Manifests[0].Digest))
	must(t, err)
	m, err := v1.ParseManifest(bytes.NewReader(b))
	must(t, err)
	return m
}

// changeManifest writes a layout's manifest anew, with an index that names it: what it says is hostile,
// that it is what the index says is true.
func changeManifest(t *testing.T, place string, change func(*v1.Manifest)) {
	t.Helper()
	m := manifestOf(t, place)
	change(m)
	b, err := json.Marshal(m)
	must(t, err)
	h, size, err := v1.SHA256(bytes.NewReader(b))
	must(t, err)
	must(t, os.WriteFile(blobFile(place, h), b, 0o600))
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: types.OCIManifestSchema1, Size: size, Digest: h,
	}}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(strings.TrimPrefix(place, "oci:"), "index.json"), index, 0o600))
}

// contentID is the DiffID of a packed layer.
func contentID(blob []byte) v1.Hash {
	var r io.Reader = bytes.NewReader(blob)
	if z, err := gzip.NewReader(bytes.NewReader(blob)); err == nil {
		r = z
	} else if z, err := zstd.NewReader(bytes.NewReader(blob)); err == nil && bytes.HasPrefix(blob, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		r = z
	}
	h, _, err := v1.SHA256(r)
	if err != nil {
		panic(err)
	}
	return h
}
