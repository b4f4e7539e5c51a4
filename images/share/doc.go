// Package share has files of different layers with the same content lie on the disk once, where the file system can share blocks (xfs, btrfs).
//
// Which files could be the same is read in the listings of the layers; that they are
// is for the kernel to find: FIDEDUPERANGE compares both under its locks before it
// gives one file the blocks of the other. Inodes, names, attributes and times stay
// apart and as they were, and whoever reads a file meanwhile reads the same bytes. It may be
// killed at any time: what is joined stays so, and nothing else has changed.
package share
