package images

import (
	"errors"
	"fmt"
	"strings"

	"rubus/images/imageref"
)

// ErrNotFound is wrapped by errors that say an image, version or layer isn't there.
var ErrNotFound = errors.New("not found")

// NotFoundError says which image isn't there and what to do. It wraps ErrNotFound.
type NotFoundError struct {
	Ref  imageref.Ref
	hint string
}

// Error implements error.
func (e *NotFoundError) Error() string {
	if e.Ref.Version == 0 {
		return fmt.Sprintf("no image %q", e.Ref)
	}
	return fmt.Sprintf("no version %q", e.Ref)
}

// Hint is what to do about it.
func (e *NotFoundError) Hint() string { return e.hint }

// Unwrap makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// InUseError says who stands on a version that was to be removed.
type InUseError struct {
	Ref imageref.Ref
	// Who are the users; at least one.
	Who []string
}

// Error implements error.
func (e *InUseError) Error() string {
	who := e.Who
	more := ""
	if len(who) > 5 {
		who, more = who[:5], fmt.Sprintf(" and %d more", len(e.Who)-5)
	}
	return fmt.Sprintf("%q is in use by %s%s", e.Ref, strings.Join(who, ", "), more)
}

// Hint is what to do about it.
func (e *InUseError) Hint() string {
	return `move the boards to another version ("rubus device set SERIAL image=NAME"), remove what they wrote over it ("rubus device reset SERIAL"), then try again`
}

// TaggedError says that a version can't go because its image's tag means it.
type TaggedError struct{ Ref imageref.Ref }

// Error implements error.
func (e *TaggedError) Error() string {
	return fmt.Sprintf("%q is what the tag %q means", e.Ref, e.Ref.Name)
}

// Hint is what to do about it.
func (e *TaggedError) Hint() string {
	return fmt.Sprintf("move the tag first (\"rubus image tag %s %s@VERSION\"), or remove the whole image with \"rubus image rm %s\"",
		e.Ref.Name, e.Ref.Name, e.Ref.Name)
}
