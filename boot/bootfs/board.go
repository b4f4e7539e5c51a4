package bootfs

// Board is what config.txt's conditional filters and the firmware's default
// names depend on. The zero value is the oldest Pi, without a serial.
type Board struct {
	// Type and Processor are the fields of the board's revision code
	// (Raspberry Pi documentation, revision-codes.adoc): type 0x08 is a 3B,
	// 0x0d a 3B+, 0x11 a 4B; processor 2 is a BCM2837, 3 a 2711, 4 a 2712.
	Type, Processor byte
	// Serial is the low 32 bits of the SoC's serial number.
	Serial uint32
}

// The board types that filters and device tree names tell apart.
const (
	typeA, typeB, typeAPlus, typeBPlus = 0x00, 0x01, 0x02, 0x03
	type2B                             = 0x04
	typeCM1                            = 0x06
	type3B                             = 0x08
	typeZero                           = 0x09
	typeCM3                            = 0x0a
	typeZeroW                          = 0x0c
	type3BPlus                         = 0x0d
	type3APlus                         = 0x0e
	typeCM3Plus                        = 0x10
	type4B                             = 0x11
	typeZero2W                         = 0x12
	type400                            = 0x13
	typeCM4                            = 0x14
	typeCM4S                           = 0x15
	type5                              = 0x17
	typeCM5                            = 0x18
	type500                            = 0x19
	typeCM5Lite                        = 0x1a
	typeCM0                            = 0x1b
	bcm2835, bcm2836, bcm2837          = 0, 1, 2
	bcm2711                            = 3
	bcm2712                            = 4
)

// sees lists the model filters a board type passes (conditional.adoc,
// "Model Filters": a Pi 400 sees [pi4] and [pi400]).
func (b Board) sees() []string {
	switch b.Type {
	case typeA, typeB, typeAPlus, typeBPlus:
		return []string{"pi1"}
	case typeCM1:
		return []string{"pi1", "cm1"}
	case type2B:
		return []string{"pi2"}
	case type3B:
		return []string{"pi3"}
	case type3BPlus, type3APlus:
		return []string{"pi3", "pi3+"}
	case typeCM3:
		return []string{"pi3", "cm3"}
	case typeCM3Plus:
		return []string{"pi3", "cm3", "cm3+"}
	case typeZero:
		return []string{"pi0"}
	case typeZeroW:
		return []string{"pi0", "pi0w"}
	case typeZero2W:
		return []string{"pi0", "pi0w", "pi02"}
	case typeCM0:
		return []string{"pi0", "pi0w", "pi02", "cm0"}
	case type4B:
		return []string{"pi4"}
	case type400:
		return []string{"pi4", "pi400"}
	case typeCM4:
		return []string{"pi4", "cm4"}
	case typeCM4S:
		return []string{"pi4", "cm4s"}
	case type5:
		return []string{"pi5"}
	case type500:
		return []string{"pi5", "pi500"}
	case typeCM5, typeCM5Lite:
		return []string{"pi5", "cm5"}
	}
	return nil
}

// default64 says whether the firmware starts the board in 64-bit mode when
// config.txt doesn't say (boot.adoc, "arm_64bit").
func (b Board) default64() bool { return b.Processor >= bcm2711 }

// can64 says whether the processor has a 64-bit mode.
func (b Board) can64() bool { return b.Processor >= bcm2837 }

// defaultKernels lists the kernel names the firmware tries, in its order.
func (b Board) defaultKernels(arm64 bool) []string {
	switch {
	case b.Processor >= bcm2712:
		return []string{"kernel_2712.img", "kernel8.img"}
	case arm64:
		return []string{"kernel8.img"}
	case b.Processor == bcm2711:
		return []string{"kernel7l.img", "kernel7.img", "kernel.img"}
	case b.Processor >= bcm2836:
		return []string{"kernel7.img", "kernel.img"}
	}
	return []string{"kernel.img"}
}

// autoInitramfs is the name that auto_initramfs=1 asks for with the given
// kernel: the kernel's suffix on another stem.
func autoInitramfs(kernel string) string {
	switch kernel {
	case "kernel.img":
		return "initramfs"
	case "kernel7.img":
		return "initramfs7"
	case "kernel7l.img":
		return "initramfs7l"
	case "kernel8.img":
		return "initramfs8"
	case "kernel_2712.img":
		return "initramfs_2712"
	}
	return ""
}

// dtb is a board's device tree under Raspberry Pi's name and under Linux'.
type dtb struct{ own, upstream string }

func (b Board) dtb() dtb {
	switch b.Type {
	case type2B:
		if b.Processor >= bcm2837 {
			return dtb{"bcm2710-rpi-2-b.dtb", "bcm2837-rpi-2-b.dtb"}
		}
		return dtb{"bcm2709-rpi-2-b.dtb", "bcm2836-rpi-2-b.dtb"}
	case type3B:
		return dtb{"bcm2710-rpi-3-b.dtb", "bcm2837-rpi-3-b.dtb"}
	case type3BPlus:
		return dtb{"bcm2710-rpi-3-b-plus.dtb", "bcm2837-rpi-3-b-plus.dtb"}
	case type3APlus:
		return dtb{"bcm2710-rpi-3-b-plus.dtb", "bcm2837-rpi-3-a-plus.dtb"}
	case typeCM3, typeCM3Plus:
		return dtb{"bcm2710-rpi-cm3.dtb", "bcm2837-rpi-cm3-io3.dtb"}
	case typeZero2W, typeCM0:
		return dtb{"bcm2710-rpi-zero-2-w.dtb", "bcm2837-rpi-zero-2-w.dtb"}
	case type4B:
		return dtb{"bcm2711-rpi-4-b.dtb", "bcm2711-rpi-4-b.dtb"}
	case type400:
		return dtb{"bcm2711-rpi-400.dtb", "bcm2711-rpi-400.dtb"}
	case typeCM4:
		return dtb{"bcm2711-rpi-cm4.dtb", "bcm2711-rpi-cm4-io.dtb"}
	case typeCM4S:
		return dtb{"bcm2711-rpi-cm4s.dtb", "bcm2711-rpi-cm4s.dtb"}
	case type5:
		return dtb{"bcm2712-rpi-5-b.dtb", "bcm2712-rpi-5-b.dtb"}
	case type500:
		return dtb{"bcm2712-rpi-500.dtb", "bcm2712-rpi-500.dtb"}
	case typeCM5:
		return dtb{"bcm2712-rpi-cm5-cm5io.dtb", "bcm2712-rpi-cm5-cm5io.dtb"}
	case typeCM5Lite:
		return dtb{"bcm2712-rpi-cm5l-cm5io.dtb", "bcm2712-rpi-cm5l-cm5io.dtb"}
	case typeZero:
		return dtb{"bcm2708-rpi-zero.dtb", "bcm2835-rpi-zero.dtb"}
	case typeZeroW:
		return dtb{"bcm2708-rpi-zero-w.dtb", "bcm2835-rpi-zero-w.dtb"}
	case typeBPlus:
		return dtb{"bcm2708-rpi-b-plus.dtb", "bcm2835-rpi-b-plus.dtb"}
	}
	return dtb{"bcm2708-rpi-b.dtb", "bcm2835-rpi-b.dtb"}
}
