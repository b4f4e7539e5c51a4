// Package treesum lists a directory tree in one canonical text, whose SHA-256 names a layer.
//
// # The listing
//
// The first line is "rubus-tree-1". Then comes one line for every name of the
// tree, the root included, in the byte order of their paths relative to the
// root (the root's own path is empty, prints as "." and comes first). Fields
// stand one space apart:
//
//	d MODE UID GID MTIME PATH [XATTR...]              directory
//	f MODE UID GID MTIME SIZE SUM PATH [XATTR...]     regular file
//	l 0777 UID GID MTIME PATH TARGET [XATTR...]       symbolic link
//	c MODE UID GID MTIME MAJOR:MINOR PATH [XATTR...]  character device
//	b MODE UID GID MTIME MAJOR:MINOR PATH [XATTR...]  block device
//	p MODE UID GID MTIME PATH [XATTR...]              fifo
//	s MODE UID GID MTIME PATH [XATTR...]              socket
//	h PATH FIRST                                      hard link
//
// MODE is the 12 permission bits as four octal digits. UID, GID, SIZE, MAJOR
// and MINOR are decimal. MTIME is seconds since 1970, a dot and nine digits of
// nanoseconds; before 1970 the seconds are negative and the nanoseconds count
// up from them, as in struct timespec. Of several names of one inode the first
// in the order above stands with its attributes, each other one as "h" with the
// path of the first. XATTR is NAME=VALUE in the byte order of the names, the
// value in lower-case hex. In PATH, TARGET, FIRST and NAME every byte up to 0x20,
// from 0x7f on, and the backslash is written as \xHH. Every line ends with \n.
//
// SUM is 64 lower-case hex digits. For content of at most 1 MiB it is its SHA-256,
// so that sha256sum shows the same. For longer content it is the SHA-256 of
// the SHA-256s (32 bytes each, one after the other) of its blocks of 1 MiB, the last
// one as short as it is: so two cores share one file, and the holes of a sparse
// one cost nothing.
//
// Not in the listing: inode numbers, link counts, access and change times, how
// a file's holes lie, and the extended attributes that Counted leaves out. The
// digest of a tree is the SHA-256 of the listing in lower-case hex.
package treesum
