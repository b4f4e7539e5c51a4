// Package layer builds the tree of one layer: its names in order, content and attributes by workers beside them.
package layer
