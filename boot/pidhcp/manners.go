package pidhcp

import (
	"net/netip"
	"time"

	"rubus/config/device"
)

// Delivery is how an OFFER travels on the link.
type Delivery string

// The ways.
const (
	// Auto: to everybody when the OFFER carries no address, as dnsmasq's proxy
	// does; else as the request's broadcast flag asks.
	Auto Delivery = "auto"
	// ToAll: to everybody, always.
	ToAll Delivery = "broadcast"
	// ToBoard: to the board's own Ethernet address, always.
	ToBoard Delivery = "unicast"
)

// Manner is how one kind of firmware is answered. What nobody has tried on a
// board can be set here.
type Manner struct {
	// Offers are the times after a DISCOVER at which the OFFER is sent.
	Offers []time.Duration
	// Text is the entry of the boot menu in option 43; "": no option 43.
	Text string
	// Delivery is how the OFFER travels.
	Delivery Delivery
	// Option66 says that the TFTP server is named in option 66, too.
	Option66 bool
}

// Manners are those for all kinds of firmware.
type Manners struct {
	ROM, Bootcode, EEPROM Manner
	// ServerID, when valid, is sent as option 54 by a proxy instead of the
	// address that the OFFER comes from.
	ServerID netip.Addr
	// PlainACK says that the ACK of a server that gives out addresses is without
	// the options of its OFFER that name the TFTP server.
	PlainACK bool
	// OUIs make a Pi of a PXE client whose option 97 says nothing.
	OUIs device.OUIs
}

// Of is the manner for a kind of firmware.
func (m Manners) Of(k Kind) Manner {
	switch k {
	case Pi3ROM:
		return m.ROM
	case Bootcode:
		return m.Bootcode
	}
	return m.EEPROM
}

// DefaultManners are what captures, firmware and reports say is right.
func DefaultManners() Manners {
	const ms = time.Millisecond
	return Manners{
		// The ROM takes in an OFFER only when another packet follows in good time:
		// the times are those that openSUSE/netboot-rpi3b found. Other reports
		// say that one OFFER after 2 s is right.
		ROM: Manner{Offers: []time.Duration{0, 600 * ms, 1200 * ms}, Text: BootText + romPadding, Delivery: Auto, Option66: true},
		// The last OFFER heard wins, a router's may be that.
		Bootcode: Manner{Offers: []time.Duration{0, 1000 * ms}, Text: BootText + romPadding, Delivery: Auto, Option66: true},
		// Early EEPROMs compare the whole text.
		EEPROM: Manner{Offers: []time.Duration{0}, Text: BootText, Delivery: Auto, Option66: true},
		OUIs:   device.PiOUIs(),
	}
}
