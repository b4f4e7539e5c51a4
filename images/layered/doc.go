// Package layered shows a stack of overlayfs layers as the one tree that a mount of it would show, and mounts nothing.
//
// It reads whiteouts, opaque directories and redirects as the kernel does
// (Documentation/filesystems/overlayfs.rst, Linux 6.1 to 6.18), and of an upper also
// the index: a golden file that a board wrote to under one of its names, or by
// a file handle alone, shows what was written under all the names that it has in
// the layers. Reading disturbs no mount that uses the layers; of an upper that is
// written to meanwhile each name is seen as it was at some moment.
//
// What lies in a layer is not trusted: every lookup stays below the layer's root
// and on its mount, and follows no link.
package layered
