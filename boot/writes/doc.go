// Package writes is what a board wrote, as it lies on the disk: its uppers, those that were
// set aside as snapshots, and the marks beside them that say what is to become of each.
//
// It is work on files for whoever holds the board, the daemon or a command without one; it
// mounts nothing. What is half done after a crash is under a name that a sweep takes, or
// marked so that Finish ends it.
package writes
