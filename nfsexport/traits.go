package nfsexport

import "errors"

// ErrCalled says that an export cannot be held because its client is at work.
var ErrCalled = errors.New("the server cannot say when the calls that it runs have ended")

// Traits say in what a server differs from one of our own. The zero Traits are
// those of our own.
type Traits struct {
	// Unasked: the server answers MOUNTs by itself, to every client of an export.
	// So an export is published for its client before that one mounts it, and that
	// it did is found out later.
	Unasked bool
	// RealPath: clients mount an export by Export.Dir, and not by Export.Path.
	RealPath bool
	// Shared: file handles are not authenticated. Who may use one export can reach
	// every file of the file system that its root lies on.
	Shared bool
}
