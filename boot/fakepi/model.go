package fakepi

import (
	"fmt"
	"strings"
	"time"

	"rubus/boot/bootfs"
	"rubus/config/device"
)

// Model is one kind of board, as far as its firmware's network boot is concerned.
// What is known of it comes from captures, documentation and the firmware's own
// strings; the tables say where nobody has seen what firmware does.
type Model struct {
	// Name is how the model is asked for: "3b".
	Name string
	// Title is its name on the box.
	Title string
	// Revision is the code of a common revision of the board.
	Revision device.Revision
	// macFromSerial says that the MAC is b8:27:eb and the serial's low 24 bits.
	macFromSerial bool
	// oui begins the MACs of the models that choose theirs freely.
	oui [3]byte
	// chip says how the bootloader changed over time; nil: there is none to write anew.
	chip *chip
	// stages are the programs that run one after the other.
	stages func(release) []stage
	// armstub64 is asked for in 64-bit mode, and armstub32 in 32-bit mode, one
	// name after the other.
	armstub64, armstub32 []string
}

// EEPROM says which dates the model's bootloader may have; zero: it has none.
func (m Model) EEPROM() (first, latest time.Time) {
	if m.chip == nil {
		return time.Time{}, time.Time{}
	}
	return m.chip.first, m.chip.latest
}

// stage is one piece of firmware: how it talks and what it does.
type stage struct {
	name string
	// dhcp is nil when the stage keeps the address of the one before.
	dhcp *dhcpStyle
	tftp tftpStyle
	// silentARP says that the stage answers no ARP.
	silentARP bool
	// checksum says that the stage fills in UDP checksums.
	checksum bool
	steps    []step
}

// dhcpStyle is how a stage asks for addresses.
type dhcpStyle struct {
	// params is option 55.
	params []byte
	// guid makes option 97.
	guid func(Board) [17]byte
	// xid is the transaction id; 0: random.
	xid uint32
	// request says that an offer is confirmed by REQUEST and ACK.
	request bool
	// sends are the times of the DISCOVERs, and end is when the stage gives up.
	sends []time.Duration
	end   time.Duration
	// window is how long offers are gathered before any is looked at.
	window time.Duration
	// ackWait is the wait for an ACK.
	ackWait time.Duration
	// server says which of an offer's addresses is the TFTP server's.
	server func(Offer) (choice, bool)
	// gateway says that the stage can reach a server behind a router.
	gateway bool
	// anyMAC says that offers made to other boards are taken, too: with the
	// constant xid, Pi 3s that start together take each other's.
	anyMAC bool
	// relayless says that answers which came by way of a relay are not taken.
	relayless bool
}

// tftpStyle is how a stage reads files.
type tftpStyle struct {
	// tsize and blksize are the options sent; blksize 0: none, blocks of 512.
	tsize   bool
	blksize int
	// rollover says that the block number may go from 65535 to 0.
	rollover bool
	// reacks says that a block which comes again is acknowledged again.
	reacks bool
	// port is the first source port, one more per file; 0: random. keepPort
	// goes on from the stage before.
	port     uint16
	keepPort bool
	// resend is the wait before an RRQ is repeated; 0: never.
	resend time.Duration
	// quiet is the longest silence within a file, and whole the time for all
	// of it; 0: no limit.
	quiet, whole time.Duration
}

// maxFile is the size of the largest file a stage can read; 0: no limit.
func (s tftpStyle) maxFile() int64 {
	if s.rollover {
		return 0
	}
	// A transfer ends with a block that is not full, and blocks count from 1.
	return int64(s.blockSize())*65535 - 1
}

func (s tftpStyle) blockSize() int {
	if s.blksize == 0 {
		return 512
	}
	return s.blksize
}

// Board is one board.
type Board struct {
	Model    Model
	Serial   device.Serial
	MAC      device.MAC
	Revision device.Revision
	// EEPROM is the date of its bootloader; zero: it has none.
	EEPROM time.Time
	// Prefix is what its bootloader puts before the names of files.
	Prefix Prefix

	stages []stage
}

// Setup says what a board is; all but Model and Serial may be left out.
type Setup struct {
	Model  string
	Serial device.Serial
	// MAC is by default the one that a Pi 3 derives from its serial, or for
	// later models one made up from it.
	MAC device.MAC
	// Revision is by default a common one of the model.
	Revision device.Revision
	// EEPROM is the date of the bootloader, by default the last one known.
	EEPROM time.Time
	Prefix Prefix
}

// NewBoard makes a board with the defaults of the named model.
func NewBoard(model string, serial device.Serial, mac device.MAC) (Board, error) {
	return Setup{Model: model, Serial: serial, MAC: mac}.Board()
}

// Board makes the board.
func (s Setup) Board() (Board, error) {
	m, err := ModelByName(s.Model)
	if err != nil {
		return Board{}, err
	}
	if s.Serial.IsZero() {
		return Board{}, device.ErrNoSerial
	}
	b := Board{Model: m, Serial: s.Serial, MAC: s.MAC, Revision: s.Revision, EEPROM: s.EEPROM, Prefix: s.Prefix}
	if b.MAC.IsZero() {
		b.MAC = s.Serial.PiMAC()
		if !m.macFromSerial {
			copy(b.MAC[:3], m.oui[:])
		}
	}
	switch {
	case b.Revision == 0:
		b.Revision = m.Revision
	case b.Revision.Type() != m.Revision.Type() || !b.Revision.Known():
		return Board{}, fmt.Errorf("revision %06x is that of a %s, not of a %s", uint32(b.Revision), b.Revision, m.Title)
	}
	var r release
	switch {
	case m.chip == nil && (!b.EEPROM.IsZero() || b.Prefix != Prefix{}):
		return Board{}, fmt.Errorf("a %s has no EEPROM: it has one bootloader, and asks for files below its serial", m.Title)
	case m.chip != nil:
		if b.EEPROM.IsZero() {
			b.EEPROM = m.chip.latest
		}
		if r, err = m.chip.release(b.EEPROM); err != nil {
			return Board{}, err
		}
	}
	b.stages = m.stages(r)
	return b, nil
}

// fs is the board as config.txt sees it.
func (b Board) fs() bootfs.Board {
	return bootfs.Board{Type: b.Revision.Type(), Processor: b.Revision.Processor(), Serial: b.Serial.Uint32()}
}

// ModelByName finds a model; case does not matter.
func ModelByName(name string) (Model, error) {
	var names []string
	for _, m := range Models() {
		if strings.EqualFold(m.Name, name) {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Model{}, fmt.Errorf("model %q is not one of %s", name, strings.Join(names, ", "))
}
