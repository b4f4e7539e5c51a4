// Package imageref parses names of images: "lab" and "lab@3".
package imageref

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxName is the longest image name in bytes.
const MaxName = 64

// Ref names an image (its tag) or, with a version, one immutable state of it.
// It is comparable. A Ref other than the zero value is made by Parse, so Name
// is safe as a path element.
type Ref struct {
	// Name is the image: [a-z0-9] then [a-z0-9._-], at most MaxName bytes.
	Name string
	// Version counts from 1; 0 means "whatever the tag says".
	Version int
}

// Parse reads "name" or "name@version".
func Parse(s string) (Ref, error) {
	name, ver, pinned := strings.Cut(s, "@")
	if err := checkName(name); err != nil {
		return Ref{}, fmt.Errorf("image %q: %w", s, err)
	}
	if !pinned {
		return Ref{Name: name}, nil
	}
	n, err := strconv.ParseUint(ver, 10, 31)
	if err != nil || n == 0 || ver[0] == '0' || ver[0] == '+' {
		return Ref{}, fmt.Errorf("image %q: version %q is no number from 1 up, as in lab@3", s, ver)
	}
	return Ref{Name: name, Version: int(n)}, nil
}

func checkName(s string) error {
	if s == "" {
		return fmt.Errorf("the name is empty")
	}
	if len(s) > MaxName {
		return fmt.Errorf("the name is longer than %d bytes", MaxName)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return fmt.Errorf("%q may not stand in a name at byte %d: use a-z, 0-9 and, after the first, . _ -", string(c), i+1)
		}
	}
	return nil
}

// String is the form Parse reads.
func (r Ref) String() string {
	if r.Version == 0 {
		return r.Name
	}
	return r.Name + "@" + strconv.Itoa(r.Version)
}

// IsZero says that no image is named.
func (r Ref) IsZero() bool { return r == Ref{} }

// At is the same image at a version.
func (r Ref) At(version int) Ref { return Ref{Name: r.Name, Version: version} }

// MarshalText implements encoding.TextMarshaler.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is the zero value.
func (r *Ref) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = Ref{}
		return nil
	}
	p, err := Parse(string(b))
	if err != nil {
		return err
	}
	*r = p
	return nil
}
