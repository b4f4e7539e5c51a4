// Package carry makes the upper of a new slot of what a board has: its writes over another
// version, a part of them over its image, or a copy of a snapshot.
//
// It is work on files for whoever holds the board, as in boot/writes: it knows no mounts, no
// exports and no locks. An upper that it made is one that no record names yet: a crash undoes
// it, until whoever called has written the record that does.
package carry
