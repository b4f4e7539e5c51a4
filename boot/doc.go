// Package boot is the life of a board from its first packet to its mounted root.
//
// The Fleet holds one board per serial. A board has slots: each slot is one
// upper over one base, one mount point and one export, numbered per board and
// never used twice. A slot is made when the board asks for its first file
// ("next"), becomes the board's root when it mounts it ("current"), and is
// retired when another slot took its place ("old", or "parked" when it holds
// writes that must be kept). device.json holds the slots, and is on disk
// before anything depends on what it says.
//
// What follows from what is known is in rooms of its own, which know no Fleet: record what
// is written down and what comes next, phase what a board is doing, sighting who asks, writes
// the files of its uppers and snapshots, carry the uppers that are made of them, attempt which
// files its boots get and whether they were good, binding which MAC may speak for it, rollout
// who moves together, turn who waits for whom. Here they meet the mounts, the exports and the
// locks.
//
// Locks: Fleet.mu guards the table of boards and the desired state, and is
// never held over I/O; board.work is held by whoever changes a board's slots
// and may be held over mounts; board.mu guards the fields that others read and
// is held for moments only. Order: work, then mu, then Fleet.mu. What a board's boots have
// (attempt.Boots) is asked while neither mu is held: it may wait for the disk.
package boot
