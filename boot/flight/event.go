package flight

import (
	"net/netip"
	"time"

	"rubus/config/device"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events.
const (
	// Discover: the board asked for an address and a boot server.
	Discover Kind = "discover"
	// Offered: we answered. Unanswered: we did not, Text says why.
	Offered    Kind = "offered"
	Unanswered Kind = "unanswered"
	// Heard: another server made the board an offer, or confirmed one.
	Heard Kind = "heard"
	// Requested: the board took an address.
	Requested Kind = "requested"
	// Prepared: the boot files were settled; Boot is the boot's id. Text says
	// which files they are, Problem what was found wrong with the board's own.
	Prepared Kind = "prepared"
	// Blocked: no boot files are given out; Text says why.
	Blocked Kind = "blocked"
	// Warned: something about the boot files that may stop the boot.
	Warned Kind = "warned"
	// File: a file was asked for over TFTP.
	File Kind = "file"
	// Refused: somebody was refused as this board.
	Refused Kind = "refused"
	// Mounted: the root was mounted. Called: the first NFS call came on it.
	Mounted Kind = "mounted"
	Called  Kind = "called"
	// Running: init was read. Good: the unit in the image reported the boot.
	Running Kind = "running"
	Good    Kind = "good"
	// Failed: the next boot began before this one was reported.
	Failed Kind = "failed"
	// Rebased: what became of the board's move to another version, in Text.
	Rebased Kind = "rebased"
	// Stopped: an admin cut the board off.
	Stopped Kind = "stopped"
	// Console: a line of the board's console (netconsole).
	Console Kind = "console"
	// Lost: events that were not kept; Count says how many.
	Lost Kind = "lost"
)

// Outcome is how the asking for a file ended.
type Outcome string

// The outcomes of a File event.
const (
	// Whole: the board has all of it. Probed: it only wanted to know its size.
	Whole  Outcome = "whole"
	Probed Outcome = "probed"
	// Expected: it is missing, as on most boards. Missing: the firmware would
	// have used it.
	Expected Outcome = "expected"
	Missing  Outcome = "missing"
	// TimedOut: the board stopped answering. GaveUp: it broke off in the middle.
	TimedOut Outcome = "timed-out"
	GaveUp   Outcome = "gave-up"
	// Broken: anything else, Text says what.
	Broken Outcome = "broken"
)

// Event is one fact. Fields that do not belong to its kind are zero. All text
// that came from the network is bounded and has no control characters.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	// Stage is the firmware that asked: "pi3-rom", "bootcode" or "eeprom".
	Stage string `json:"stage,omitempty"`
	// Revision is the board's, Bootloader how old its bootloader is (Discover).
	Revision   device.Revision `json:"revision,omitempty"`
	Bootloader string          `json:"bootloader,omitempty"`
	// MAC is the board's (Discover).
	MAC device.MAC `json:"mac,omitzero"`
	// Quiet is how long ago the board was last heard, when it rebooted (Discover).
	Quiet time.Duration `json:"quiet_ns,omitempty"`
	// Server is who spoke (Offered, Heard), or whom the board asked (File).
	Server netip.Addr `json:"server,omitzero"`
	// Address is the address that was offered, or that was asked from.
	Address netip.Addr `json:"address,omitzero"`
	// BootServer is option 66, PiBoot says that option 43 has a Pi's text, and
	// Confirmed that it was an ACK (Heard).
	BootServer string `json:"boot_server,omitempty"`
	PiBoot     bool   `json:"pi_boot,omitempty"`
	Confirmed  bool   `json:"confirmed,omitempty"`
	// Name, Outcome, Size, Bytes, Block, Took and Retries are those of a File.
	Name    string        `json:"name,omitempty"`
	Outcome Outcome       `json:"outcome,omitempty"`
	Size    int64         `json:"size,omitempty"`
	Bytes   int64         `json:"bytes,omitempty"`
	Block   int           `json:"block,omitempty"`
	Took    time.Duration `json:"took_ns,omitempty"`
	Retries int           `json:"retries,omitempty"`
	// Boot is the boot's id (Prepared, Good, Failed), Reports says that the image
	// has the unit which reports it, LastGood that the files are those of the
	// last good boot instead of the board's own (Prepared).
	Boot     string `json:"boot,omitempty"`
	Reports  bool   `json:"reports,omitempty"`
	LastGood bool   `json:"last_good,omitempty"`
	Problem  string `json:"problem,omitempty"`
	Text     string `json:"text,omitempty"`
	Count    int    `json:"count,omitempty"`
}

// Timeline is one attempt of a board to boot.
type Timeline struct {
	Serial device.Serial `json:"serial"`
	// N counts a board's boots from 1.
	N     int       `json:"n"`
	Begin time.Time `json:"begin"`
	// Over says that a later boot of the board has begun.
	Over   bool    `json:"over,omitempty"`
	Events []Event `json:"events"`
}

// Kernel is what the kernel of a Prepared boot is called; several names, with
// commas between, while the board's model is not known; "" when nobody can tell.
func (e Event) Kernel() string {
	if e.Kind != Prepared {
		return ""
	}
	return e.Name
}
