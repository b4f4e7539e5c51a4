// Package tarball copies what a tar archive holds into a layer, and what a container image's layer hides of those below.
package tarball
