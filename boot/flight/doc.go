// Package flight is the recorder of boots: what was heard and done in each
// attempt of a board to boot, on disk, with a verdict in one sentence.
//
// A Timeline is a value, and Judge is a pure function of one. The Recorder takes
// events from many goroutines without blocking them, sorts them into timelines
// and keeps those: one file of JSON lines for each boot, bounded in number and
// size for a board and for all. A line that a crash tore is skipped.
package flight
