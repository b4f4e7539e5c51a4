package servecmd

import (
	"rubus/boot"
	"rubus/config"
	"rubus/config/device"
	"rubus/nfsexport"
)

// desiredOf says to the fleet what a snapshot of the configuration wants.
func desiredOf(s *config.Snapshot) *boot.Desired {
	d := &boot.Desired{Devices: map[device.Serial]*boot.Device{}, ByMAC: s.MACs()}
	for _, dev := range s.Devices() {
		d.Devices[dev.Serial] = deviceOf(dev)
	}
	switch u := s.Unknown(); u.Policy {
	case config.UnknownIgnore:
		d.Unknown = boot.UnknownIgnore
	case config.UnknownList:
		d.Unknown = boot.UnknownList
	case config.UnknownBoot:
		d.Unknown = boot.UnknownBoot
		d.UnknownDevice = *deviceOf(u.Device)
	}
	return d
}

func deviceOf(d *config.Device) *boot.Device {
	return &boot.Device{
		Serial: d.Serial, Name: d.Name, Image: d.Image, MAC: d.MAC, Address: d.Address,
		Ephemeral: d.Overlay == config.Ephemeral, Enabled: d.Enabled, Async: !d.Sync,
		Quota:   nfsexport.Space(d.Quota),
		Cmdline: d.Cmdline, Config: d.Config, Identity: WishOf(d),
	}
}
