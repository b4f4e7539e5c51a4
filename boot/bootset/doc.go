// Package bootset is the set of files that one boot of a board stands on: looked at
// as one unit before any is given out, kept as it was for the whole boot, and
// kept further once that boot was good.
//
// Check is pure: it sees the boot files and the kernel modules of a root through
// a View and says what cannot work, for one model or for several. A Store holds
// the sets of one board: the present one and that of its last good boot. A file
// that lies unchanged in an immutable layer is kept as a reference to it, a file
// of the board's own as a copy named by its content.
package bootset
