// Package importer makes versions of directories, tarballs, disk images and container layers.
package importer
