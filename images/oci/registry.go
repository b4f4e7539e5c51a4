package oci

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// RegistryError is what a registry refused.
type RegistryError struct {
	what, hint string
	err        error
}

// Error implements error. It holds no credentials.
func (e *RegistryError) Error() string { return e.what }

// Unwrap gives the answer of the registry.
func (e *RegistryError) Unwrap() error { return e.err }

// Hint says what can be done about it.
func (e *RegistryError) Hint() string { return e.hint }

// explain says what the answer of a registry about an image means.
func explain(r name.Reference, err error) error {
	host := r.Context().RegistryStr()
	login := fmt.Sprintf("\"docker login %s\" or \"podman login %[1]s\", as the user that runs rubus, keeps the credentials that are taken", host)
	var refused *transport.Error
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return &RegistryError{fmt.Sprintf("the registry %q has no TLS", host), "say --insecure-registry if that is meant", err}
	case !errors.As(err, &refused):
		return err
	}
	switch refused.StatusCode {
	case http.StatusUnauthorized:
		return &RegistryError{fmt.Sprintf("the registry %q wants other credentials, or some (401)", host), login, err}
	case http.StatusForbidden:
		return &RegistryError{fmt.Sprintf("the registry %q does not allow this with these credentials (403)", host), login, err}
	case http.StatusNotFound:
		return &RegistryError{fmt.Sprintf("the registry %q has no image %s:%s (404)", host, r.Context().RepositoryStr(), r.Identifier()), "", err}
	}
	return err
}

// checkSecret refuses a reference with credentials in it, as a URL may have them: they would
// be kept as the version's source. The error does not say it.
func checkSecret(place string) error {
	ref, ok := strings.CutPrefix(place, registry)
	if host, _, _ := strings.Cut(ref, "/"); ok && strings.Contains(host, "@") {
		return &RegistryError{"a registry's name holds no credentials", "\"docker login\" or \"podman login\" keeps them", nil}
	}
	return nil
}
