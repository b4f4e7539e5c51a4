// Package record is what is written down of a board, and what a boot, a MOUNT and a move
// to another version make of it.
//
// device.json has the board's binding, its slots and its last move, snapshot.json beside
// each snapshot what it is of. A [Record] is a value: what follows from one is pure, but
// for the question whether an upper is empty. Nothing here knows of mounts, exports or a
// daemon: whoever writes a record sees to it that nobody else does.
package record
