package proxydhcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	bootReply     = 2
	flagBroadcast = 0x8000 // RFC 2131 section 2: answer by broadcast
	vendorReply   = "PXEClient"
	// bootText is what every Pi looks for in option 43.
	bootText = "Raspberry Pi Boot"
	// romPadding makes up for the ROM of the Pi 3, which reads the text three
	// bytes too long.
	romPadding = "   "
)

// Sub-options of option 43 (PXE specification 2.1, table 2-1) that a Pi reads.
const (
	pxeDiscoveryControl = 6
	pxeBootMenu         = 9
	pxeMenuPrompt       = 10
	pxeEnd              = 255
	// pxeNoBroadcast: no multicast, no broadcast discovery.
	pxeNoBroadcast = 3
)

// vendorOption is option 43 for a kind of firmware.
func vendorOption(k Kind) []byte {
	text := bootText
	if k != EEPROM {
		// Early EEPROMs compare the whole text, the old ROM needs more of it.
		text += romPadding
	}
	b := []byte{
		pxeDiscoveryControl, 1, pxeNoBroadcast,
		pxeMenuPrompt, 4, 0, 'P', 'X', 'E',
		pxeBootMenu, byte(3 + len(text)), 0, 0, byte(len(text)),
	}
	b = append(b, text...)
	return append(b, pxeEnd)
}

// Reply is the OFFER that answers req with server as the TFTP server: an OFFER
// without an address, for a board that has one from its DHCP server. It is nil
// when req is no DISCOVER (an ACK or NAK of ours could end an exchange with the
// address server) and when server is no IPv4 address.
//
// The options are in the order, and but for option 66 and siaddr byte for byte,
// of what dnsmasq sends and all boards are known to take. The 3 understands the
// packet's source address, the 4 and 5 option 54 or 66: server must be all of
// them.
func Reply(req Request, server netip.Addr) []byte {
	if req.Type != dhcpv4.MessageTypeDiscover || !server.Is4() {
		return nil
	}
	own := server.As4()
	b := make([]byte, 236, 512)
	b[0], b[1], b[2], b[3] = bootReply, 1, 6, req.Hops
	binary.BigEndian.PutUint32(b[4:], req.XID)
	binary.BigEndian.PutUint16(b[8:], req.Secs)
	binary.BigEndian.PutUint16(b[10:], req.Flags|flagBroadcast)
	copy(b[20:], own[:])
	if req.GIAddr.Is4() {
		gi := req.GIAddr.As4()
		copy(b[24:], gi[:])
	}
	copy(b[28:], req.MAC[:])
	b = append(b, 0x63, 0x82, 0x53, 0x63) // RFC 2131 section 3: the magic cookie
	option := func(code dhcpv4.OptionCode, data []byte) {
		b = append(b, code.Code(), byte(len(data)))
		b = append(b, data...)
	}
	option(dhcpv4.OptionDHCPMessageType, []byte{byte(dhcpv4.MessageTypeOffer)})
	option(dhcpv4.OptionServerIdentifier, own[:])
	option(dhcpv4.OptionClassIdentifier, []byte(vendorReply))
	option(dhcpv4.OptionTFTPServerName, []byte(server.String()))
	option(dhcpv4.OptionClientMachineIdentifier, req.GUID[:])
	option(dhcpv4.OptionVendorSpecificInformation, vendorOption(req.Kind))
	if n := len(req.RelayInfo); n > 0 && n <= 255 {
		// RFC 3046 section 2.2: echoed unchanged, as the last option.
		option(dhcpv4.OptionRelayAgentInformation, []byte(req.RelayInfo))
	}
	return append(b, 255)
}
