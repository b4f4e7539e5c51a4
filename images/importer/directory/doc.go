// Package directory copies a directory tree that stays on one mount into a layer.
package directory
