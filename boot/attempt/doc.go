// Package attempt is the boots of one board in a row: which boot files each gets,
// whether it was good, and what the next one does about it.
//
// Boots are those of one board. It decides and keeps; what came of it are values, which
// the caller logs and tells.
package attempt
