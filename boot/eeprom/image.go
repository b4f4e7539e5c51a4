package eeprom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Chip is the processor that a bootloader is for. A bootloader for another one
// must never be written: the board would not start any more.
type Chip int

// The chips that boot from an EEPROM.
const (
	BCM2711 Chip = 2711 // Pi 4, 400, Compute Module 4
	BCM2712 Chip = 2712 // Pi 5, 500, Compute Module 5
)

// String is as in "BCM2711".
func (c Chip) String() string { return fmt.Sprintf("BCM%d", int(c)) }

// Sizes of the flash memories, in bytes.
const (
	size2711 = 512 << 10
	size2712 = 2 << 20
)

// The layout of an image.
const (
	magicMask = 0xfffff00f
	magic     = 0x55aaf00f
	magicPad  = 0x55aafeef
	magicFile = 0x55aaf11f // a file that may be changed

	headerLen = 8           // magic and length
	nameLen   = 12          // of a file, padded with NUL
	fileLen   = nameLen + 4 // what precedes a file's content in its section
	eraseLen  = 4 << 10     // an erasable block; the image's last one is the bootloader's own

	// An image of two halves has its first half here; its configuration counts.
	readOnlyLen  = 64 << 10
	partitionLen = 988 << 10
)

// MaxConfig is the longest configuration in bytes: one erasable block with its
// headers.
const MaxConfig = eraseLen - headerLen - nameLen

const configName = "bootconf.txt"

// Image is a bootloader image.
type Image struct {
	data     []byte
	sections []section
}

type section struct {
	magic  uint32
	at     int // where its header begins
	length int // of what follows the header
	name   string
}

// Parse takes an image apart. It keeps b, and edits change it.
func Parse(b []byte) (*Image, error) {
	if len(b) != size2711 && len(b) != size2712 {
		return nil, fmt.Errorf("not a bootloader image: %d bytes; want %d (Pi 4) or %d (Pi 5)", len(b), size2711, size2712)
	}
	i := &Image{data: b}
	if err := i.parse(); err != nil {
		return nil, fmt.Errorf("not a bootloader image: %w", err)
	}
	return i, nil
}

func (i *Image) parse() error {
	i.sections = i.sections[:0]
	for at := 0; at+headerLen <= len(i.data); {
		m, n := binary.BigEndian.Uint32(i.data[at:]), binary.BigEndian.Uint32(i.data[at+4:])
		if m == 0 || m == 0xffffffff {
			break
		}
		if m&magicMask != magic {
			return fmt.Errorf("no section at byte %d", at)
		}
		if uint64(n) > uint64(len(i.data)-at-headerLen) {
			return fmt.Errorf("the section at byte %d leaves the image", at)
		}
		s := section{magic: m, at: at, length: int(n)}
		if m == magicFile {
			if s.length < fileLen {
				return fmt.Errorf("the file at byte %d has no room for its name", at)
			}
			s.name = string(bytes.TrimRight(i.data[at+headerLen:at+headerLen+nameLen], "\x00"))
		}
		i.sections = append(i.sections, s)
		at = (at + headerLen + s.length + 7) &^ 7
	}
	if len(i.sections) == 0 {
		return errors.New("it has no sections")
	}
	return nil
}

// Chip says what the image is for.
func (i *Image) Chip() Chip {
	if len(i.data) == size2711 {
		return BCM2711
	}
	return BCM2712
}

// Bytes is the image. It is the memory that Parse was given.
func (i *Image) Bytes() []byte { return i.data }

// Config is the configuration text.
func (i *Image) Config() (string, error) {
	n, err := i.find(configName)
	if err != nil {
		return "", err
	}
	s := i.sections[n]
	return string(i.data[s.at+headerLen+fileLen : s.at+headerLen+s.length]), nil
}

// find gives the section of a file.
func (i *Image) find(name string) (int, error) {
	for n, s := range i.sections {
		if s.magic == magicFile && s.name == name && s.at >= readOnlyLen && s.at < readOnlyLen+partitionLen {
			return n, nil
		}
	}
	return 0, fmt.Errorf("the bootloader image has no %s", name)
}

// SetConfig puts another configuration text into the image.
func (i *Image) SetConfig(text string) error {
	n, err := i.find(configName)
	if err != nil {
		return err
	}
	if len(text) > MaxConfig {
		return fmt.Errorf("the bootloader's configuration has %d bytes; at most %d fit", len(text), MaxConfig)
	}
	s, last := i.sections[n], n == len(i.sections)-1
	// What follows is left alone: the next section that is no padding, else the
	// end of the half, else the bootloader's own block.
	limit := min(len(i.data)-eraseLen, readOnlyLen+partitionLen)
	for _, next := range i.sections[n+1:] {
		if next.magic != magicPad {
			limit = next.at
			break
		}
	}
	end := s.at + headerLen + fileLen + len(text)
	if end > limit {
		return fmt.Errorf("the bootloader image has no room for %d bytes of configuration", len(text))
	}
	binary.BigEndian.PutUint32(i.data[s.at+4:], uint32(fileLen+len(text)))
	copy(i.data[end-len(text):], text)
	for ; end%8 != 0; end++ {
		i.data[end] = 0xff
	}
	if rest := limit - end; rest >= headerLen && !last {
		binary.BigEndian.PutUint32(i.data[end:], magicPad)
		binary.BigEndian.PutUint32(i.data[end+4:], uint32(rest-headerLen))
		end += headerLen
	}
	for ; end < limit; end++ {
		i.data[end] = 0xff
	}
	return i.parse()
}
