package images

import (
	"encoding/json"
	"fmt"
	"time"

	"rubus/images/imageref"
)

// Layer describes one read-only directory tree.
type Layer struct {
	// Digest is 64 lower-case hex digits: see package treesum.
	Digest string `json:"digest"`
	// Bytes is the content on disk, without holes; Files counts all names but
	// the root's.
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"`
}

// Where boot files may lie in an image, relative to its root.
const (
	BootFirmware = "boot/firmware"
	BootPlain    = "boot"
)

// Version is an immutable state of an image.
type Version struct {
	// Ref names it, always with a number.
	Ref     imageref.Ref `json:"ref"`
	Created time.Time    `json:"created"`
	// Source is what it was imported from, Message what the admin said about it.
	Source  string `json:"source,omitempty"`
	Message string `json:"message,omitempty"`
	// Layers are stacked, the bottom one first.
	Layers []Layer `json:"layers"`
	// Boot is where the boot files lie: BootFirmware or BootPlain.
	Boot string `json:"boot"`
}

// Bytes is the size of all layers.
func (v Version) Bytes() (n int64) {
	for _, l := range v.Layers {
		n += l.Bytes
	}
	return n
}

// Files is the number of names in all layers.
func (v Version) Files() (n int64) {
	for _, l := range v.Layers {
		n += l.Files
	}
	return n
}

// Use says that something stands on a version's layers.
type Use struct {
	// Ref is the version, Layers are the digests of its stack. Either may be
	// missing when it is not known.
	Ref    imageref.Ref
	Layers []string
	// Who names the user in messages, as in "board 5b154510".
	Who string
}

// UsesFunc tells what is in use. It is called with the store locked, so that
// what it returns stays true until the change is made.
type UsesFunc func() ([]Use, error)

// manifest is the file of a version.
type manifest struct {
	Format int `json:"format"`
	Version
}

// manifestFormat is the number of the format this package writes and reads.
const manifestFormat = 1

// parseManifest reads the file of the version ref and checks everything that
// others build paths of.
func parseManifest(ref imageref.Ref, b []byte) (Version, error) {
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Version{}, fmt.Errorf("manifest of %q: %w", ref, err)
	}
	bad := func(format string, a ...any) (Version, error) {
		return Version{}, fmt.Errorf("manifest of %q: %s", ref, fmt.Sprintf(format, a...))
	}
	switch {
	case m.Format != manifestFormat:
		return bad("format %d: this rubus knows format %d; was the store used by a newer one?", m.Format, manifestFormat)
	case m.Ref != ref:
		return bad("it says it is that of %q", m.Ref)
	case len(m.Layers) == 0:
		return bad("it names no layer")
	case m.Boot != BootFirmware && m.Boot != BootPlain:
		return bad("boot directory %q is neither %q nor %q", m.Boot, BootFirmware, BootPlain)
	}
	for _, l := range m.Layers {
		if !validDigest(l.Digest) {
			return bad("layer %q is no digest", l.Digest)
		}
	}
	return m.Version, nil
}

// validDigest says whether s is 64 lower-case hex digits, safe as a path element.
func validDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
