package bootset

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"rubus/boot/bootfs"
)

// Set is the boot files of one moment. It is a value that a Store keeps on disk.
type Set struct {
	// Key names the content: two sets with one key are the same.
	Key  string    `json:"key"`
	Made time.Time `json:"made"`
	// Kernels and Releases are the Report's.
	Kernels  []string `json:"kernels,omitempty"`
	Releases []string `json:"releases,omitempty"`
	Files    []Entry  `json:"files"`
	// Names are all files that were in the boot directory; others are not there
	// for this boot, whatever the directory has by now.
	Names []string `json:"names"`
}

// Entry is one file of a Set: either in a layer, or a copy.
type Entry struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Layer is the digest of the layer the file lies in, and Path its path there.
	Layer string `json:"layer,omitempty"`
	Path  string `json:"path,omitempty"`
	// Sum is the SHA-256 of a copy, Identity the file it was copied from.
	Sum      string `json:"sum,omitempty"`
	Identity string `json:"identity,omitempty"`
}

// content says what the file is.
func (e Entry) content() string {
	if e.Sum != "" {
		return e.Sum
	}
	return e.Layer + "/" + e.Path
}

// entry is the file of a name; case does not matter.
func (s *Set) entry(name string) *Entry {
	for i := range s.Files {
		if s.Files[i].Name == name {
			return &s.Files[i]
		}
	}
	for i := range s.Files {
		if strings.EqualFold(s.Files[i].Name, name) {
			return &s.Files[i]
		}
	}
	return nil
}

// was says whether a name was in the boot directory.
func (s *Set) was(name string) bool {
	return slices.ContainsFunc(s.Names, func(n string) bool { return strings.EqualFold(n, name) })
}

func (s *Set) setKey() {
	h := sha256.New()
	for _, e := range s.Files {
		fmt.Fprintf(h, "%q %q\n", e.Name, e.content())
	}
	s.Key = hex.EncodeToString(h.Sum(nil))[:16]
}

// HasKernel says whether a file is the kernel of the set.
func (s *Set) HasKernel(name string) bool {
	return slices.ContainsFunc(s.Kernels, func(k string) bool { return strings.EqualFold(k, name) })
}

// Served is a Set that files are read from. It implements bootfs.Files.
type Served struct {
	Set   *Set
	store *Store
	// Live opens a file that was in the boot directory and is none of the set;
	// nil: there is none.
	Live func(name string) (*bootfs.File, error)
}

var _ bootfs.Files = (*Served)(nil)

// Open implements bootfs.Files.
func (s *Served) Open(name string) (*bootfs.File, error) {
	if e := s.Set.entry(name); e != nil {
		return s.store.open(*e)
	}
	if s.Live != nil && s.Set.was(name) {
		return s.Live(name)
	}
	return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
}
