package fakepi

import (
	"time"

	"rubus/config/device"
)

// Option 55 of the mask ROM, and of everything after it.
var (
	romParams     = []byte{0x2b, 0x3c, 0x43, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x42}
	loaderParams  = append(append([]byte(nil), romParams...), 0x01, 0x03)
	eepromParams  = []byte{0x01, 0x03, 0x2b, 0x3c, 0x42, 0x43, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87}
	everyFiveSecs = []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}
)

// pi3xid is the transaction id of every Pi up to the 3, always.
const pi3xid = 0x26f30339

// Models are the models that can be played. Revisions are those of common
// boards (Raspberry Pi documentation, revision-codes.adoc).
func Models() []Model {
	four, five := bcm2711(), bcm2712()
	eeprom := func(name, title string, revision device.Revision, oui [3]byte, c chip, stages func(release) []stage) Model {
		m := Model{Name: name, Title: title, Revision: revision, oui: oui, chip: &c, stages: stages}
		if c.name == four.name {
			m.armstub64, m.armstub32 = []string{"armstub8-gic.bin"}, []string{"armstub8-32-gic.bin", "armstub7.bin"}
		} else {
			m.armstub64 = []string{"armstub8-2712.bin"}
		}
		return m
	}
	dc, e4, d8, cf := [3]byte{0xdc, 0xa6, 0x32}, [3]byte{0xe4, 0x5f, 0x01}, [3]byte{0xd8, 0x3a, 0xdd}, [3]byte{0x2c, 0xcf, 0x67}
	return []Model{
		pi3("3b", "Raspberry Pi 3 Model B", 0xa02082, &dhcpStyle{
			params: romParams, guid: guidROM, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
			// The ROM looks at what it has received when its one-second timer ends.
			window: time.Second, server: followPi3, anyMAC: true, relayless: true,
		}),
		pi3("3b+", "Raspberry Pi 3 Model B+", 0xa020d3, &dhcpStyle{
			params: loaderParams, guid: guidRepeated, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
			server: followPi3, gateway: true, anyMAC: true,
		}),
		eeprom("4b", "Raspberry Pi 4 Model B", 0xc03114, dc, four, pi4Stages),
		eeprom("400", "Raspberry Pi 400", 0xc03130, dc, four, pi4Stages),
		eeprom("cm4", "Raspberry Pi Compute Module 4", 0xb03140, e4, four, pi4Stages),
		eeprom("5", "Raspberry Pi 5", 0xd04170, d8, five, pi5Stages),
		eeprom("500", "Raspberry Pi 500", 0xd04190, cf, five, pi5Stages),
		eeprom("cm5", "Raspberry Pi Compute Module 5", 0xd04180, cf, five, pi5Stages),
	}
}

// pi3 is a 3B or 3B+: they share all but the ROM.
func pi3(name, title string, revision device.Revision, rom *dhcpStyle) Model {
	// No retry was ever seen in a capture; one every two seconds is the EEPROM's.
	tftp := tftpStyle{tsize: true, keepPort: true, reacks: true, resend: 2 * time.Second, quiet: 10 * time.Second}
	loader := &dhcpStyle{
		params: loaderParams, guid: guidRepeated, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
		server: followPi3, gateway: true, anyMAC: true,
	}
	return Model{
		Name: name, Title: title, Revision: revision, macFromSerial: true,
		armstub64: []string{"armstub8.bin"}, armstub32: []string{"armstub8-32.bin", "armstub7.bin"},
		stages: func(release) []stage {
			return []stage{
				{
					name: "rom", dhcp: rom, silentARP: true, steps: romSteps(),
					tftp: tftpStyle{port: 49152, quiet: 5 * time.Second, reacks: true},
				},
				{name: "bootcode.bin", tftp: tftp, steps: bootcodeSteps(), dhcp: loader},
				{name: "start.elf", tftp: tftp, steps: startSteps()},
			}
		},
	}
}

// eepromDHCP is how the bootloaders in an EEPROM ask for an address.
func eepromDHCP(r release) *dhcpStyle {
	return &dhcpStyle{
		params: eepromParams, guid: r.guid, request: true, relayless: !r.relayed,
		sends: []time.Duration{0, 8 * time.Second, 24 * time.Second}, end: 45 * time.Second,
		ackWait: 4 * time.Second, server: r.follow, gateway: true,
	}
}

func eepromTFTP(r release) tftpStyle {
	return tftpStyle{
		tsize: true, blksize: r.blksize, rollover: r.rollover, reacks: r.reacks,
		resend: 2 * time.Second, whole: 30 * time.Second,
	}
}

func pi4Stages(r release) []stage {
	start4 := tftpStyle{
		tsize: true, blksize: 1024, keepPort: true, reacks: true, resend: 2 * time.Second, quiet: 10 * time.Second,
	}
	return []stage{
		{name: "eeprom", tftp: eepromTFTP(r), checksum: true, steps: eepromSteps(), dhcp: eepromDHCP(r)},
		{name: "start4.elf", tftp: start4, checksum: true, steps: start4Steps()},
	}
}

// pi5Stages: a Pi 5 has all of its firmware in the EEPROM.
func pi5Stages(r release) []stage {
	return []stage{{name: "eeprom", tftp: eepromTFTP(r), checksum: true, steps: pi5Steps(), dhcp: eepromDHCP(r)}}
}
