package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"rubus/images/treesum"
)

// Devices is what becomes of the device nodes of a source. Whoever may open one on a board has
// the board's device: a disk, the memory. Whiteouts are none.
type Devices string

// What may become of device nodes.
const (
	DevicesKeep   Devices = "keep" // "" too; those outside of /dev are noted
	DevicesDrop   Devices = "drop"
	DevicesRefuse Devices = "refuse"
)

// ErrDevice says that a source has a device node although none is allowed.
var ErrDevice = errors.New("it is a device node, and those are to be refused")

// Check says whether d is one of them.
func (d Devices) Check() error {
	switch d {
	case "", DevicesKeep, DevicesDrop, DevicesRefuse:
		return nil
	}
	return fmt.Errorf("device nodes %q: want keep, drop or refuse", string(d))
}

// KeepsAll says that a source comes as it is.
func (d Devices) KeepsAll() bool { return d == "" || d == DevicesKeep }

// device says whether a device node of a source is made.
func (b *Builder) device(dir *Node, name string, e *treesum.Entry) (bool, error) {
	isNode := e.Type == treesum.Block || e.Type == treesum.Char && (e.Major != 0 || e.Minor != 0)
	if !isNode {
		return true, nil
	}
	p := path.Join(dir.Path(), name)
	switch b.Devices {
	case DevicesRefuse:
		kind := map[byte]string{treesum.Block: "block", treesum.Char: "character"}[e.Type]
		return false, b.failed(dir, name, fmt.Errorf("%w (%s %d:%d)", ErrDevice, kind, e.Major, e.Minor))
	case DevicesDrop:
		b.Drop(dir, name)
		b.Notes.Add("device nodes were left out", p)
		return false, nil
	}
	if !strings.HasPrefix(p, "dev/") {
		b.Notes.Add("device nodes outside of /dev were kept (--device-nodes drop leaves them out)", p)
	}
	return true, nil
}

// Drop notes that a name was left out; Dropped says so of a path.
func (b *Builder) Drop(dir *Node, name string) { b.dropped[path.Join(dir.Path(), name)] = true }

// Dropped says whether a path was left out.
func (b *Builder) Dropped(p string) bool { return b.dropped[p] }
