// Package importer makes layers and versions of directories and tarballs.
package importer
