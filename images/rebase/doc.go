// Package rebase plans how what a board wrote is carried over to another version of its image.
//
// There are three trees: was, the version that the board wrote over; board, that
// with its writes; and next, the version it is to move to. Of each name that the
// board changed the plan says keep (next is as was there), drop (next has the same),
// or conflict (both changed). On Debian-like systems packages are looked at first: what a package
// brought goes with it, the newer version of a package wins, and its database is put together of both.
package rebase
