package bootfs

import "testing"

func TestOptional(t *testing.T) {
	for name, want := range map[string]bool{
		"bootsig.bin": true, "recovery.elf": true, "armstub8-2712.bin": true, "armstub8-gic.bin": true,
		"overlays/overlay_map.dtb": true, "/autoboot.txt": true, "PIEEPROM.SIG": true, "overlays/bcm2712d0.dtbo": true,
		"start4.elf": false, "config.txt": false, "kernel8.img": false, "initramfs8": false, "cmdline.txt": false,
		"bcm2711-rpi-4-b.dtb": false, "overlays/vc4-kms-v3d.dtbo": false, "bootcode.bin": false, "": false,
	} {
		if got := Optional(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
