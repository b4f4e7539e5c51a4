package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"

	"rubus/config/device"
	"rubus/images/imageref"
)

// File is a configuration file as it was read.
type File struct {
	// Name is what problems and sources call it: its path as the user gave it.
	Name string
	// Data is its text; nil means that there is no such file.
	Data []byte
}

// Snapshot is one state of rubus.yaml and devices.yaml that was found valid as
// a whole. Nothing it hands out may be changed; it may be read from anywhere.
type Snapshot struct {
	daemon   Daemon
	devices  []*Device
	bySerial map[device.Serial]*Device
	byMAC    map[device.MAC]*Device
	unknown  Unknown
	// files are the raw texts, so that the snapshot can be kept on disk.
	daemonFile, devicesFile File
}

// Daemon is what rubus.yaml says, with every default filled in.
func (s *Snapshot) Daemon() Daemon { return s.daemon }

// Devices lists all devices, disabled ones too, sorted by serial.
func (s *Snapshot) Devices() []*Device { return s.devices }

// BySerial is the device of a board; nil when there is none.
func (s *Snapshot) BySerial(serial device.Serial) *Device { return s.bySerial[serial] }

// ByMAC is the device of the board with a MAC: the one that names it, or the
// one whose serial a Pi up to the 3 derives it from. nil when there is none.
// It is how a Pi 3 is known, whose boot ROM sends no serial.
func (s *Snapshot) ByMAC(mac device.MAC) *Device { return s.byMAC[mac] }

// MACs lists every MAC that ByMAC knows.
func (s *Snapshot) MACs() map[device.MAC]device.Serial {
	out := make(map[device.MAC]device.Serial, len(s.byMAC))
	for mac, d := range s.byMAC {
		out[mac] = d.Serial
	}
	return out
}

// Unknown says what happens to boards that have no device.
func (s *Snapshot) Unknown() Unknown { return s.unknown }

// Quotas counts the devices that have a quota, those among them that have no entry as one.
func (s *Snapshot) Quotas() (n int) {
	for _, d := range s.Devices() {
		if d.Quota != (Quota{}) {
			n++
		}
	}
	if s.unknown.Policy == UnknownBoot && s.unknown.Device.Quota != (Quota{}) {
		n++
	}
	return n
}

// Same says that both snapshots were made of the same bytes.
func (s *Snapshot) Same(t *Snapshot) bool {
	return bytes.Equal(s.devicesFile.Data, t.devicesFile.Data) && bytes.Equal(s.daemonFile.Data, t.daemonFile.Data)
}

// Policy says what a board gets that no device names.
type Policy string

// The policies for unknown boards.
const (
	// UnknownIgnore gives no answer and keeps no note.
	UnknownIgnore Policy = "ignore"
	// UnknownList gives no answer but lists the board in "rubus status".
	UnknownList Policy = "list"
	// UnknownBoot boots an image.
	UnknownBoot Policy = "boot"
)

// Unknown is the policy for unknown boards.
type Unknown struct {
	Policy Policy
	// Device is what every unknown board gets when Policy is UnknownBoot: the
	// image, and overlay, cmdline and config of the defaults. It has no serial.
	Device *Device
}

// Overlay says what becomes of a board's writes.
type Overlay string

// The kinds of overlay.
const (
	// Persistent writes outlive a boot.
	Persistent Overlay = "persistent"
	// Ephemeral writes are gone at the next boot.
	Ephemeral Overlay = "ephemeral"
)

// Quota is how much a board's root may take; 0 is no limit.
type Quota struct {
	// Bytes are those of the file system's blocks, Files are all inodes.
	Bytes int64 `json:"bytes,omitempty"`
	Files int64 `json:"files,omitempty"`
}

// String is what stands in devices.yaml.
func (q Quota) String() string {
	switch {
	case q == Quota{}:
		return "none"
	case q.Files == 0:
		return sizeText(q.Bytes)
	case q.Bytes == 0:
		return fmt.Sprintf("{files: %d}", q.Files)
	}
	return fmt.Sprintf("{size: %s, files: %d}", sizeText(q.Bytes), q.Files)
}

// Device is what the admin wants of one board, with groups and defaults
// applied.
type Device struct {
	Serial device.Serial
	// Name is for people; "" when the board has none.
	Name   string
	Groups []string
	// MAC is zero when the file names none.
	MAC device.MAC
	// Address is the zero Addr when the file names none.
	Address netip.Addr
	Image   imageref.Ref
	Overlay Overlay
	// Enabled is false for a board that gets no new boot.
	Enabled bool
	// Sync puts the board's metadata on disk before a call is answered.
	Sync bool
	// Quota bounds what the board writes; the zero Quota: nothing does.
	Quota Quota
	// Cmdline are words for cmdline.txt; an element may be several words.
	Cmdline []string
	// Config are lines for config.txt.
	Config []string
	Identity

	sources map[string][]Source
}

// Sources says where the value of a key (as in devices.yaml) comes from: one
// source, or for cmdline, config, group and files one for each element, for vars and
// authorized_keys one for each in the order of their names. It is empty
// for a key that has no value.
func (d *Device) Sources(key string) []Source { return d.sources[key] }

// Label is the name, or the serial of a board without one.
func (d *Device) Label() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Serial.String()
}

// Source is where a value comes from.
type Source struct {
	// Origin is "device", "group NAME", "defaults", "built in", or "its name".
	Origin string `json:"origin"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
}

// builtIn is the source of what no file says.
func builtIn() Source { return Source{Origin: "built in"} }

// String is "group room1 (devices.yaml:9)".
func (s Source) String() string {
	if s.Line == 0 {
		return s.Origin
	}
	return fmt.Sprintf("%s (%s:%d)", s.Origin, filepath.Base(s.File), s.Line)
}
