// Package eeprom reads and edits the bootloader image of a Pi 4 or 5: the
// configuration in it says in which order the board tries to boot.
//
// An image is a row of sections. Each begins with a magic number and the length
// of what follows, both big-endian, at a multiple of 8 bytes. Files that may be
// changed have a name and lie in erasable blocks of 4 KiB; a section of padding
// fills the rest of a block. The format is that of Raspberry Pi's own tool
// (rpi-eeprom-config in github.com/raspberrypi/rpi-eeprom), and an edit gives
// the bytes that the tool gives.
package eeprom
