package attempt

import (
	"strings"

	"rubus/boot/bootfs"
	"rubus/boot/bootset"
	"rubus/config/device"
)

// Models are the models that a board may be, by what it said in DHCP and by the file that
// it asked for first. Guessed says that neither tells: they are all that there are.
func Models(serial device.Serial, rev device.Revision, asked string) (models []bootset.Model, guessed bool) {
	if rev.Known() {
		name, _, _ := strings.Cut(rev.String(), " 1.")
		return []bootset.Model{{Name: "Pi " + name, Board: bootfs.Board{Type: rev.Type(), Processor: rev.Processor(), Serial: serial.Uint32()}}}, false
	}
	all := bootset.Models(serial.Uint32())
	switch strings.ToLower(asked) {
	case "start4.elf":
		return all[1:2], false
	case "start.elf", "bootcode.bin", "bootsig.bin":
		return all[:1], false
	case "config.txt":
		return all[2:], false
	}
	return all, true
}
