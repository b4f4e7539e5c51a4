package pidhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
)

const (
	vendorReply = "PXEClient"
	// BootText is what every Pi looks for in option 43.
	BootText = "Raspberry Pi Boot"
	// romPadding makes up for the ROM of the Pi 3, which reads the text three
	// bytes too long.
	romPadding = "   "
	// MaxText is the longest text that fits into option 43, in bytes.
	MaxText = 200
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

// vendorOption is option 43 with a boot menu of one entry.
func vendorOption(text string) []byte {
	text = text[:min(len(text), MaxText)]
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
func Reply(req Request, server netip.Addr, manners Manners) []byte {
	if req.Type != dhcpv4.MessageTypeDiscover || !server.Is4() {
		return nil
	}
	id := server
	if manners.ServerID.Is4() {
		id = manners.ServerID
	}
	h := req.Header
	h.Flags |= dhcplink.FlagBroadcast
	h.CIAddr = netip.Addr{}
	a := dhcplink.NewAnswer(h, dhcpv4.MessageTypeOffer, netip.Addr{}, server)
	a.AddAddresses(dhcpv4.OptionServerIdentifier, id)
	AddBoot(a, req, server, manners)
	return a.Bytes()
}

// AddBoot adds the options by which the firmware that sent req finds its TFTP
// server.
func AddBoot(a *dhcplink.Answer, req Request, server netip.Addr, manners Manners) {
	m := manners.Of(req.Kind)
	a.Add(dhcpv4.OptionClassIdentifier, []byte(vendorReply))
	if m.Option66 {
		a.Add(dhcpv4.OptionTFTPServerName, []byte(server.String()))
	}
	if req.GUID != [17]byte{} {
		a.Add(dhcpv4.OptionClientMachineIdentifier, req.GUID[:])
	}
	if m.Text != "" {
		a.Add(dhcpv4.OptionVendorSpecificInformation, vendorOption(m.Text))
	}
}
