package bootset

import (
	"io"

	"rubus/boot/bootfs"
)

// File is one open file. Its size does not change.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// View is what a check looks at: the boot files of a root, and its modules.
type View interface {
	// Open opens a file of the boot directory, without regard to case. The error
	// wraps fs.ErrNotExist when it is not there, or is no file.
	Open(name string) (File, error)
	// Config is config.txt as the board gets it.
	Config() []byte
	// Modules lists the kernel releases that the root has modules of.
	Modules() []string
}

// Model is a board that the files may be for.
type Model struct {
	// Name is how people call it: "Pi 4".
	Name  string
	Board bootfs.Board
	// NewBootloader says that the board's bootloader is known to count blocks
	// beyond 65,535.
	NewBootloader bool
}

// Models are one of each generation, for when a board's own is not known. Serial
// is for conditional filters of config.txt.
func Models(serial uint32) []Model {
	return []Model{
		{Name: "Pi 3", Board: bootfs.Board{Type: 0x08, Processor: 2, Serial: serial}},
		{Name: "Pi 4", Board: bootfs.Board{Type: 0x11, Processor: 3, Serial: serial}},
		{Name: "Pi 5", Board: bootfs.Board{Type: 0x17, Processor: 4, Serial: serial}},
	}
}

// Supported picks the models that a boot directory has firmware of; of a Pi 5,
// whose firmware is in its EEPROM, the device tree.
func Supported(v View, models []Model) []Model {
	var out []Model
	for _, m := range models {
		name := "start.elf"
		switch {
		case m.Board.Processor >= bcm2712:
			name = "bcm2712-rpi-5-b.dtb"
		case m.Board.Processor == bcm2711:
			name = "start4.elf"
		}
		if _, ok := size(v, name); ok {
			out = append(out, m)
		}
	}
	return out
}

// The processors of revision codes.
const (
	bcm2711 = 3
	bcm2712 = 4
)

// blocks is the most that firmware without a rolling block counter reads: the
// last block of 65,535 must not be full.
const blocks = 65535

// maxFile is the largest file that the model's firmware reads, and whether newer
// firmware reads larger ones. The sizes are those of its blocks: 512 bytes on a
// Pi 3, 1,024 by start4.elf, 1,468 by the EEPROM of a Pi 5.
func (m Model) maxFile() (limit int64, certain bool) {
	switch {
	case m.Board.Processor >= bcm2712:
		return 1468*blocks - 1, false
	case m.Board.Processor == bcm2711:
		return 1024*blocks - 1, true
	}
	return 512*blocks - 1, true
}

// size is the size of a file; ok is false when it is not there.
func size(v View, name string) (n int64, ok bool) {
	f, err := v.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	return f.Size(), true
}
