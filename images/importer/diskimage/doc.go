// Package diskimage copies the root of a disk image, and its boot partition where the root mounts it, into a layer.
package diskimage
