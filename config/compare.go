package config

import (
	"fmt"

	"rubus/config/device"
)

// Changes lists the devices in which two snapshots differ, each by serial.
type Changes struct{ Added, Removed, Changed []device.Serial }

// Compare says what next changes. A device that only moved in the file is not
// changed; one that gets another value from a group is.
func Compare(inForce, next *Snapshot) Changes {
	var d Changes
	for _, n := range next.devices {
		switch o := inForce.BySerial(n.Serial); {
		case o == nil:
			d.Added = append(d.Added, n.Serial)
		case o.text() != n.text():
			d.Changed = append(d.Changed, n.Serial)
		}
	}
	for _, o := range inForce.devices {
		if next.BySerial(o.Serial) == nil {
			d.Removed = append(d.Removed, o.Serial)
		}
	}
	return d
}

// text is all that a device says, without where it says it.
func (d *Device) text() string {
	c := *d
	c.sources = nil
	return fmt.Sprintf("%+v, lines %q and %q", c, c.Cmdline, c.Config)
}
