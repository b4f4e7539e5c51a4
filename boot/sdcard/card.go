package sdcard

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"time"

	"rubus/boot/eeprom"
)

// Kind is what a card does.
type Kind int

const (
	// ProgramOTP is for a Pi 3B, 2B of revision 1.2 or CM3: it burns the bit that
	// lets the boot ROM try the network. That cannot be undone, and nothing else
	// changes.
	ProgramOTP Kind = iota + 1
	// Bootcode stays in the board: its bootcode.bin replaces the one that the
	// boot ROM would fetch, which has faults, and waits longer for answers.
	Bootcode
	// FlashEEPROM is for a Pi 4, 400 or 5 and their Compute Modules: it writes a
	// bootloader with another boot order into the board's EEPROM.
	FlashEEPROM
)

// Source is where firmware comes from: the boot directory of an image, and for
// FlashEEPROM a bootloader and the program that writes it.
type Source struct {
	// Boot is the image's boot directory. For ProgramOTP and Bootcode.
	Boot fs.FS
	// EEPROM is the bootloader image, Recovery is recovery.bin. For FlashEEPROM.
	EEPROM, Recovery []byte
}

// File is one file of a card, in its root directory.
type File struct {
	Name string
	Data []byte
}

// maxFirmware is the longest file that is put on a card: firmware has 3 MiB.
const maxFirmware = 16 << 20

// Plan gives the files of a card. Chip and order are for FlashEEPROM: the
// board's processor and its new boot order. Now stands in the bootloader's
// signature file.
func Plan(k Kind, src Source, chip eeprom.Chip, order uint32, now time.Time) ([]File, error) {
	switch k {
	case ProgramOTP:
		files, err := firmware(src.Boot, "bootcode.bin", "start.elf", "fixup.dat")
		return append(files, File{"config.txt", []byte("# Burns the bit that lets this board boot from the network.\nprogram_usb_boot_mode=1\n")}), err
	case Bootcode:
		files, err := firmware(src.Boot, "bootcode.bin")
		// A file of this name makes bootcode.bin wait 5 s, not 2 s. It has one byte:
		// the library gives an empty one a cluster, which is no good file system.
		return append(files, File{"timeout", []byte("\n")}), err
	case FlashEEPROM:
		return flash(src, chip, order, now)
	default:
		return nil, fmt.Errorf("unknown kind of card %d", k)
	}
}

// firmware reads files of an image's boot directory.
func firmware(boot fs.FS, names ...string) ([]File, error) {
	var out []File
	for _, name := range names {
		info, err := fs.Stat(boot, name)
		if err != nil {
			return nil, fmt.Errorf("the image's firmware: %w", err)
		}
		if !info.Mode().IsRegular() || info.Size() > maxFirmware {
			return nil, fmt.Errorf("the image's %s is no firmware: %s, %d bytes", name, info.Mode(), info.Size())
		}
		b, err := fs.ReadFile(boot, name)
		if err != nil {
			return nil, fmt.Errorf("the image's firmware: %w", err)
		}
		out = append(out, File{name, b})
	}
	return out, nil
}

// flash gives the bootloader with the order, its signature file and the program
// that writes it.
func flash(src Source, chip eeprom.Chip, order uint32, now time.Time) ([]File, error) {
	if len(src.Recovery) == 0 || len(src.Recovery) > maxFirmware {
		return nil, fmt.Errorf("recovery.bin has %d bytes", len(src.Recovery))
	}
	img, err := eeprom.Parse(append([]byte(nil), src.EEPROM...))
	if err != nil {
		return nil, err
	}
	if img.Chip() != chip {
		return nil, fmt.Errorf("the bootloader is for a board with a %s, not a %s", img.Chip(), chip)
	}
	text, err := img.Config()
	if err != nil {
		return nil, err
	}
	if err := img.SetConfig(eeprom.With(text, eeprom.BootOrder, fmt.Sprintf("%#x", order))); err != nil {
		return nil, err
	}
	// The format of rpi-eeprom-digest: the digest, then the time of the update.
	sig := fmt.Sprintf("%x\nts: %d\ntarget-soc: %d\n", sha256.Sum256(img.Bytes()), now.Unix(), int(chip))
	return []File{{"recovery.bin", src.Recovery}, {"pieeprom.bin", img.Bytes()}, {"pieeprom.sig", []byte(sig)}}, nil
}
