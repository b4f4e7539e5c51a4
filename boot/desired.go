package boot

import (
	"net/netip"

	"rubus/boot/identity"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
)

// Device is what the admin wants of one board.
type Device struct {
	Serial device.Serial
	Name   string
	Image  imageref.Ref
	// MAC, when given, is the only MAC the board may have.
	MAC device.MAC
	// Address, when given, is the board's address; off the link it is the only
	// way to know the board.
	Address   netip.Addr
	Ephemeral bool
	Enabled   bool
	Async     bool
	// Quota is what each root of the board may have; 0: what the disk has.
	Quota nfsexport.Space
	// Cmdline and Config are words and lines added to the board's own.
	Cmdline []string
	Config  []string
	// Identity is what the board gets of its own; nil: nothing.
	Identity *identity.Wish
}

// UnknownPolicy says what a board that no entry names gets.
type UnknownPolicy int

// The policies for unknown boards.
const (
	UnknownIgnore UnknownPolicy = iota
	UnknownList
	UnknownBoot
)

// Desired is one validated state of devices.yaml. It is never changed after
// it was given to the Fleet.
type Desired struct {
	Devices map[device.Serial]*Device
	// ByMAC names the board of a MAC: for the Pi 3, whose boot ROM sends no
	// serial, and for files asked for without a serial before their name.
	ByMAC   map[device.MAC]device.Serial
	Unknown UnknownPolicy
	// UnknownDevice is the template for UnknownBoot: its Image, options and lines.
	UnknownDevice Device
}

// device is the entry for a serial; nil: none.
func (d *Desired) device(s device.Serial) *Device {
	if d == nil {
		return nil
	}
	return d.Devices[s]
}
