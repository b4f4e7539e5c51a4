package fakepi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/config/device"
)

// vendorClass is option 60 of every Pi: 32 bytes, without a NUL.
const vendorClass = "PXEClient:Arch:00000:UNDI:002001"

// bootText is what firmware looks for in option 43 of an offer.
const bootText = "Raspberry Pi Boot"

// DHCP option codes (RFC 2132, RFC 4578) and message types.
const (
	optMask, optRouter           = 1, 3
	optVendorSpecific            = 43
	optAddress                   = 50
	optType, optServer, optParam = 53, 54, 55
	optClass                     = 60
	optTFTPServer                = 66
	optArch, optUNDI, optGUID    = 93, 94, 97
	optEnd                       = 255

	msgDiscover, msgOffer, msgRequest, msgACK, msgNAK = 1, 2, 3, 5, 6
)

// guidROM is option 97 of a Pi 3B's mask ROM: the same on every board.
func guidROM(Board) [17]byte {
	var g [17]byte
	copy(g[1:], bytes.Repeat([]byte{0x44}, 16))
	return g
}

// guidRepeated is option 97 of bootcode.bin and of a 3B+'s ROM: the serial four times.
func guidRepeated(b Board) [17]byte {
	var g [17]byte
	for i := 1; i < len(g); i += 4 {
		binary.LittleEndian.PutUint32(g[i:], b.Serial.Uint32())
	}
	return g
}

// discover is the DISCOVER of a stage, byte for byte. The library that parses
// sorts options by number; firmware does not, hence by hand.
func discover(s *dhcpStyle, b Board, xid uint32) []byte {
	p := bootp(b.MAC, xid)
	p = append(p, optType, 1, msgDiscover)
	return identity(p, s, b, true)
}

// request is an EEPROM's REQUEST for what was offered. A capture of 2020 shows
// no option 60 in it.
func request(s *dhcpStyle, b Board, xid uint32, o Offer) []byte {
	p := bootp(b.MAC, xid)
	p = append(p, optType, 1, msgRequest)
	p = append(append(p, optAddress, 4), o.Address.AsSlice()...)
	p = append(append(p, optServer, 4), o.Server.AsSlice()...)
	return identity(p, s, b, false)
}

// bootp is the fixed part of a request (RFC 2131, section 2): flags 0 ask for
// unicast answers, and secs stay 0.
func bootp(mac device.MAC, xid uint32) []byte {
	p := make([]byte, 236, 322)
	p[0], p[1], p[2] = 1, 1, 6
	binary.BigEndian.PutUint32(p[4:], xid)
	copy(p[28:], mac[:])
	return append(p, 0x63, 0x82, 0x53, 0x63)
}

func identity(p []byte, s *dhcpStyle, b Board, class bool) []byte {
	p = append(append(p, optParam, byte(len(s.params))), s.params...)
	p = append(p, optArch, 2, 0, 0)
	p = append(p, optUNDI, 3, 1, 2, 1)
	guid := s.guid(b)
	p = append(append(p, optGUID, byte(len(guid))), guid[:]...)
	if class {
		p = append(append(p, optClass, byte(len(vendorClass))), vendorClass...)
	}
	return append(p, optEnd)
}

// Offer is what firmware reads in an OFFER or ACK.
type Offer struct {
	// Source is the address the packet came from.
	Source netip.Addr
	// Server is option 54.
	Server netip.Addr
	// Address is yiaddr with its mask; invalid in a proxy's offer.
	Address netip.Addr
	Bits    int
	Router  netip.Addr
	// Next is siaddr.
	Next netip.Addr
	// TFTP is option 66 when it is an address in dotted decimal.
	TFTP netip.Addr
	// TFTPText is option 66 as it came.
	TFTPText string
	// Boot says that option 43 has the text firmware looks for, and Padded that
	// something follows the text, as a Pi 3B's ROM likes it.
	Boot, Padded bool
	// Relayed says that it came by way of a relay (giaddr).
	Relayed bool

	// exact says that nothing follows the text, and first that it is in the
	// menu's first item.
	exact, first bool

	kind byte
	xid  uint32
	mac  device.MAC
}

// parseOffer reads a server's packet.
func parseOffer(b []byte, source netip.Addr) (Offer, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return Offer{}, fmt.Errorf("reading a DHCP packet: %w", err)
	}
	if m.OpCode != dhcpv4.OpcodeBootReply || len(m.ClientHWAddr) != 6 {
		return Offer{}, fmt.Errorf("reading a DHCP packet: no reply to a board")
	}
	o := Offer{
		Source: source, Server: addr4(m.Options.Get(dhcpv4.GenericOptionCode(optServer))),
		Address: addr4(m.YourIPAddr.To4()), Next: addr4(m.ServerIPAddr.To4()),
		Relayed: addr4(m.GatewayIPAddr.To4()).IsValid(),
		kind:    byte(m.MessageType()), xid: binary.BigEndian.Uint32(m.TransactionID[:]), mac: device.MAC(m.ClientHWAddr),
	}
	if r := m.Options.Get(dhcpv4.GenericOptionCode(optRouter)); len(r) >= 4 {
		o.Router = addr4(r[:4])
	}
	o.Bits = maskBits(m.Options.Get(dhcpv4.GenericOptionCode(optMask)))
	// A trailing NUL is tolerated since bootcode.bin of 2018.
	o.TFTPText = strings.TrimRight(string(m.Options.Get(dhcpv4.GenericOptionCode(optTFTPServer))), "\x00")
	if a, err := netip.ParseAddr(o.TFTPText); err == nil && a.Is4() {
		o.TFTP = a
	}
	vendor := m.Options.Get(dhcpv4.GenericOptionCode(optVendorSpecific))
	if i := bytes.Index(vendor, []byte(bootText)); i >= 0 {
		o.Boot, o.Padded = true, bytes.HasPrefix(vendor[i+len(bootText):], []byte("   "))
		o.exact, o.first = menuItem(vendor)
	}
	return o, nil
}

// menuItem looks at the first item of the boot menu in option 43 (PXE 2.1,
// PXE_BOOT_MENU: items of type, length and text): whether its text begins with
// what firmware looks for, and whether that is all of it.
func menuItem(vendor []byte) (exact, first bool) {
	const menu = 9
	for len(vendor) >= 2 && vendor[0] != optEnd {
		length := int(vendor[1])
		if len(vendor) < 2+length {
			break
		}
		value := vendor[2 : 2+length]
		if vendor[0] == menu && length >= 3 {
			text := value[3:min(length, 3+int(value[2]))]
			return string(text) == bootText, bytes.HasPrefix(text, []byte(bootText))
		}
		vendor = vendor[2+length:]
	}
	return false, false
}

// addr4 is an address other than 0.0.0.0.
func addr4(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// maskBits is the length of a netmask; 0 when there is none that makes sense.
func maskBits(b []byte) int {
	if len(b) != 4 {
		return 0
	}
	m := binary.BigEndian.Uint32(b)
	n := 0
	for ; m&(1<<31) != 0; m <<= 1 {
		n++
	}
	if m != 0 {
		return 0
	}
	return n
}

// choice is a TFTP server and how firmware came to it.
type choice struct {
	addr netip.Addr
	why  string
	// weak marks a server that is taken only when no better one is heard of.
	weak bool
}

// followPi3 is how the Pi 3's ROM and bootcode.bin find their server: the
// sender of the packet with the text, or option 66; siaddr counts for nothing.
func followPi3(o Offer) (choice, bool) {
	switch {
	case o.TFTP.IsValid():
		return choice{addr: o.TFTP, why: "option 66"}, true
	case o.Boot:
		return choice{addr: o.Source, why: "sender of option 43"}, true
	}
	return choice{}, false
}
