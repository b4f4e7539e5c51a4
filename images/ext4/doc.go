// Package ext4 reads ext2, ext3 and ext4 file systems out of images, without a mount.
//
// It reads what a root file system is made of: names, attributes, extended
// attributes, the content with its holes. It never writes. What it reads may be
// hostile: every offset is checked, checksums are compared where there are any,
// and all that the inodes of a file system claim to hold together is bounded by
// its size, as each block can belong to one inode only.
//
// Left out on purpose: the journal. A file system that was not unmounted
// cleanly is refused, as what is on the disk is then half of what is meant.
//
// The layout is that of the kernel's Documentation/filesystems/ext4.
package ext4
