// Package fhandle knows the file handle of an object as a board holds it, as the kernel
// takes it, and as overlayfs makes it.
package fhandle
