package overlay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Base is the identity of a stack of layers that an upper was written over.
// Equal content is not enough: overlayfs ties an upper to the very directories
// below it and answers ESTALE, or quietly stops merging, over others.
type Base struct {
	// ID is 16 hex digits that follow from Digests alone.
	ID string `json:"id"`
	// Digests names the layers, the bottom one first.
	Digests []string `json:"digests"`
	// Roots tells each layer's root directory from all others, in the same
	// order: "<file system>:<kernel file handle>", in hex.
	Roots []string `json:"roots"`
}

// ErrOtherBase says that an upper belongs to another stack of layers.
var ErrOtherBase = errors.New("not the base the upper was written over")

// BaseOf finds the base of a stack: the layers' digests and the directories
// they are in, both with the bottom layer first. Where some of these are not there the
// error is a MissingLayersError.
func BaseOf(digests, dirs []string) (Base, error) {
	if len(digests) == 0 || len(digests) != len(dirs) {
		return Base{}, fmt.Errorf("base of %d digests and %d directories: want as many of each, at least one", len(digests), len(dirs))
	}
	b := Base{ID: baseID(digests), Digests: digests}
	var missing MissingLayersError
	for i, dir := range dirs {
		root, err := rootOf(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing.Digests = append(missing.Digests, digests[i])
		case err != nil:
			return Base{}, err
		}
		b.Roots = append(b.Roots, root)
	}
	if len(missing.Digests) > 0 {
		return Base{}, &missing
	}
	return b, nil
}

// MissingLayersError says which layers of a stack are not on the disk. It is no
// fs.ErrNotExist: what stands on them is there.
type MissingLayersError struct {
	Digests []string // the bottom one first
}

// Error implements error.
func (e *MissingLayersError) Error() string {
	var names []string
	for _, d := range e.Digests {
		names = append(names, fmt.Sprintf("%.12s", d))
	}
	if len(names) == 1 {
		return "layer " + names[0] + " is missing"
	}
	return "layers " + strings.Join(names, ", ") + " are missing"
}

func baseID(digests []string) string {
	sum := sha256.Sum256([]byte(strings.Join(digests, "\n")))
	return hex.EncodeToString(sum[:8])
}

// rootOf tells one directory from all others, for as long as it exists.
func rootOf(dir string) (string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|oDirectory, 0)
	if err != nil {
		return "", fmt.Errorf("opening layer: %w", err)
	}
	defer f.Close()
	h, err := handleOf(f)
	if err != nil {
		return "", fmt.Errorf("layer %q: %w", dir, err)
	}
	return fileSystemID(f) + ":" + h, nil
}

// Matches says whether an upper over b may be mounted over now, which is the
// same stack as it is found today. The error is ErrOtherBase and says what
// differs.
func (b Base) Matches(now Base) error {
	if len(b.Digests) != len(now.Digests) {
		return fmt.Errorf("%w: it has %d layers, there were %d", ErrOtherBase, len(now.Digests), len(b.Digests))
	}
	if len(b.Roots) != len(b.Digests) || len(now.Roots) != len(now.Digests) {
		return fmt.Errorf("%w: %d digests with %d roots recorded, %d with %d found", ErrOtherBase,
			len(b.Digests), len(b.Roots), len(now.Digests), len(now.Roots))
	}
	for i, d := range b.Digests {
		if d != now.Digests[i] {
			return fmt.Errorf("%w: layer %d is %s, it was %s", ErrOtherBase, i+1, now.Digests[i], d)
		}
		if !sameRoot(b.Roots[i], now.Roots[i]) {
			return fmt.Errorf("%w: layer %d (%s) has the right digest but is another directory than it was, as after a copy or a restore of the store: put the old directory back, or reset the device", ErrOtherBase, i+1, d)
		}
	}
	if b.ID != now.ID {
		return fmt.Errorf("%w: its id is %s, it was %s", ErrOtherBase, now.ID, b.ID)
	}
	return nil
}

// sameRoot compares two roots; a file system without an identity, which newer
// kernels may know, can't speak against a handle.
func sameRoot(a, b string) bool {
	fsA, handleA, okA := strings.Cut(a, ":")
	fsB, handleB, okB := strings.Cut(b, ":")
	return okA && okB && handleA == handleB && (fsA == fsB || fsA == noFSID || fsB == noFSID)
}
