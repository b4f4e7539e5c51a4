package bootfs

import (
	"slices"
	"strings"
)

// Optional says whether firmware asks for a file that most boards do not have,
// and goes on without: its absence explains nothing. The name is as the board
// sent it, without its prefix.
//
// The names are those of published captures and of the firmware's strings, for
// all models; a file that only config.txt can name is none of them.
func Optional(name string) bool {
	name = strings.ToLower(strings.TrimLeft(name, "/"))
	return slices.Contains(optional, name) || strings.HasPrefix(name, "armstub")
}

// optional is never changed.
var optional = []string{
	// Signatures, and what chooses another partition or a one-time boot.
	"bootsig.bin", "boot.sig", "boot.img", "autoboot.txt", "tryboot.txt", "bootcfg.txt", "dt-blob.bin",
	// Raspberry Pi's own recovery system, and updates of a board's EEPROM.
	"recovery.elf", "recover4.elf", "recovery7.img", "recovery8.img", "recovery.img",
	"vl805.sig", "vl805.bin", "pieeprom.sig", "pieeprom.upd",
	// Lists for overlays; only Raspberry Pi's own kernels bring the first.
	"overlays/overlay_map.dtb", "overlays/hat_map.dtb", "hat_map.dtb",
	// The stepping of a later Pi 5; kernels before it have none.
	"overlays/bcm2712d0.dtbo", "bcm2712d0-rpi-5-b.dtb",
}
