// Package bootfs is the file tree one board sees: its firmware files plus the generated ones.
package bootfs
