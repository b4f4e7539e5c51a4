package fakepi

import "time"

// Option 55 of the mask ROM, and of everything after it.
var (
	romParams     = []byte{0x2b, 0x3c, 0x43, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x42}
	loaderParams  = append(append([]byte(nil), romParams...), 0x01, 0x03)
	eepromParams  = []byte{0x01, 0x03, 0x2b, 0x3c, 0x42, 0x43, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87}
	everyFiveSecs = []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}
)

// pi3xid is the transaction id of every Pi up to the 3, always.
const pi3xid = 0x26f30339

func pi3B() Model {
	m := pi3()
	m.Name, m.Title, m.Revision = "3b", "Raspberry Pi 3 Model B", 0xa02082
	rom := &dhcpStyle{
		params: romParams, guid: guidROM, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
		// The ROM looks at what it has received when its one-second timer ends.
		window: time.Second, server: followPi3, anyMAC: true,
	}
	m.stages = append([]stage{pi3ROM(rom)}, m.stages...)
	return m
}

func pi3BPlus() Model {
	m := pi3()
	m.Name, m.Title, m.Revision = "3b+", "Raspberry Pi 3 Model B+", 0xa020d3
	rom := &dhcpStyle{
		params: loaderParams, guid: guidRepeated, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
		server: followPi3, gateway: true, anyMAC: true,
	}
	m.stages = append([]stage{pi3ROM(rom)}, m.stages...)
	return m
}

func pi3ROM(dhcp *dhcpStyle) stage {
	return stage{
		name: "rom", dhcp: dhcp, silentARP: true, steps: romSteps(),
		tftp: tftpStyle{port: 49152, quiet: 5 * time.Second},
	}
}

// pi3 is what the 3B and the 3B+ share: all but the ROM.
func pi3() Model {
	// No retry was ever seen in a capture; one every two seconds is the EEPROM's.
	tftp := tftpStyle{tsize: true, keepPort: true, resend: 2 * time.Second, quiet: 10 * time.Second}
	return Model{
		macFromSerial: true,
		stages: []stage{
			{name: "bootcode.bin", tftp: tftp, steps: bootcodeSteps(), dhcp: &dhcpStyle{
				params: loaderParams, guid: guidRepeated, xid: pi3xid, sends: everyFiveSecs, end: 25 * time.Second,
				server: followPi3, gateway: true, anyMAC: true,
			}},
			{name: "start.elf", tftp: tftp, steps: startSteps()},
		},
		armstub64: "armstub8.bin", armstub32: "armstub7.bin",
	}
}

func pi4B() Model {
	eeprom := tftpStyle{
		tsize: true, blksize: 1468, resend: 2 * time.Second, whole: 30 * time.Second,
		// Since the release of 2025-09-23.
		rollover: true,
	}
	start4 := tftpStyle{
		tsize: true, blksize: 1024, keepPort: true, resend: 2 * time.Second, quiet: 10 * time.Second,
	}
	return Model{
		Name: "4b", Title: "Raspberry Pi 4 Model B", Revision: 0xc03114,
		oui: [3]byte{0xdc, 0xa6, 0x32},
		stages: []stage{
			{name: "eeprom", tftp: eeprom, checksum: true, steps: eepromSteps(), dhcp: &dhcpStyle{
				params: eepromParams, guid: guidStructured, request: true,
				sends: []time.Duration{0, 8 * time.Second, 24 * time.Second}, end: 45 * time.Second,
				ackWait: 4 * time.Second, server: followEEPROM, gateway: true,
			}},
			{name: "start4.elf", tftp: start4, checksum: true, steps: start4Steps()},
		},
		armstub64: "armstub8-gic.bin", armstub32: "armstub8-32-gic.bin",
	}
}
