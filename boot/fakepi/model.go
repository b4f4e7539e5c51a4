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
	// stages are the programs that run one after the other.
	stages []stage
	// armstub is asked for in 64-bit mode, and in 32-bit mode.
	armstub64, armstub32 string
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
}

// tftpStyle is how a stage reads files.
type tftpStyle struct {
	// tsize and blksize are the options sent; blksize 0: none, blocks of 512.
	tsize   bool
	blksize int
	// rollover says that the block number may go from 65535 to 0.
	rollover bool
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
}

// NewBoard makes a board of the named model. Without a MAC it gets the one a
// Pi 3 derives from its serial, or for later models one made up from it.
func NewBoard(model string, serial device.Serial, mac device.MAC) (Board, error) {
	m, err := ModelByName(model)
	if err != nil {
		return Board{}, err
	}
	if serial.IsZero() {
		return Board{}, device.ErrNoSerial
	}
	if mac.IsZero() {
		mac = serial.PiMAC()
		if !m.macFromSerial {
			copy(mac[:3], m.oui[:])
		}
	}
	return Board{Model: m, Serial: serial, MAC: mac, Revision: m.Revision}, nil
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

// Models are the models that can be played.
func Models() []Model { return []Model{pi3B(), pi3BPlus(), pi4B()} }
