// Package backup writes what boards have as one stream, and brings it back on this machine or another.
//
// The stream is that of images/archive. Its members are, in this order, each of them
// there or not:
//
//	images.json, layers/DIGEST            versions and tags, and their layers
//	config/devices.yaml, config/rubus.yaml as they were
//	state                                 what the state directory has beside boards and images
//	boards/SERIAL/board.json              Packed
//	boards/SERIAL/root-N, snapshot-N      an upper: of a root whose writes are kept, of a snapshot
//	boards/SERIAL/files                   what else the board's directory has: its identity
//	boards/SERIAL/failed.json             instead of these: why it could not be read
//
// Boards come in the order of their serials. Coming back, all is read, and its sum checked,
// before anything is done: it lies in devices/.restore-ID meanwhile, which is removed by
// whoever restores next when the process is killed.
package backup
