// Package archive writes directory trees, uppers of boards first of all, as one tar stream that knows whether it is whole, and reads it back.
//
// # The stream
//
// It is a tar archive of the PAX form, so that tar lists and unpacks it. Its members, in
// their order:
//
//	rubus-backup.json       Head: format, id, time, and the id of the backup it goes on from
//	NAME                    a document, small
//	NAME.list               begins a tree: zstd; a line of JSON, then a line for every name of the
//	                        tree: "+" or "=", inode, time of change, and the path, quoted
//	NAME/, NAME/PATH        what the lines with "+" say, in that order
//	NAME.same               a tree that is as it was in the backup before
//	rubus-backup-end.json   the SHA-256 of all bytes before this member
//
// A line with "=" is a name that is as it was in the backup before: its content and
// attributes are there. "=" is said when inode, time of change and the tree's id are what
// they were; what changed within a second of its backup counts as changed the next time. A stream that names no backup before has no "=".
//
// A tree holds no attributes of overlayfs. What they say of an upper is said so:
// a whiteout is a character device 0:0; the PAX records RUBUS.opaque, RUBUS.redirect and
// RUBUS.protattr are those of a directory or file. RUBUS.size and RUBUS.data ("offset+length,…")
// are those of a file with holes, whose data follows without them; RUBUS.type=socket
// is that of an empty file. Other attributes are SCHILY.xattr.NAME, as GNU tar and bsdtar have
// them, or RUBUS.xattr.HEX for a name that such a key cannot have.
package archive
