package pidhcp

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/config/device"
)

// Offer is what another server said on the link: an OFFER or an ACK.
type Offer struct {
	Type dhcpv4.MessageType
	// Client is whom it is for; it need not be a Pi.
	Client device.MAC
	// Source is the packet's source address, ServerID option 54 and NextServer
	// siaddr; invalid: none. A Pi 3 takes the first, a Pi 4 or 5 the others.
	Source, ServerID, NextServer netip.Addr
	// Address is yiaddr; invalid in the offer of a proxy.
	Address netip.Addr
	// BootServer is option 66, at most 255 bytes of anything but NUL at the end.
	BootServer string
	// PiBoot says that option 43 has the text that a Pi looks for.
	PiBoot bool
	// SameHost says that a program on this host sent it.
	SameHost bool
}

// OfferFrom reads a server's message; ok is false for other types than OFFER
// and ACK.
func OfferFrom(m *dhcpv4.DHCPv4, source netip.Addr) (o Offer, ok bool) {
	o.Type = m.MessageType()
	if o.Type != dhcpv4.MessageTypeOffer && o.Type != dhcpv4.MessageTypeAck || len(m.ClientHWAddr) != 6 {
		return Offer{}, false
	}
	o.Client = device.MAC(m.ClientHWAddr)
	o.Source = source
	o.ServerID = dhcplink.Address(m.Options.Get(dhcpv4.OptionServerIdentifier))
	o.NextServer = dhcplink.Address(m.ServerIPAddr.To4())
	o.Address = dhcplink.Address(m.YourIPAddr.To4())
	if s := m.Options.Get(dhcpv4.OptionTFTPServerName); len(s) <= 255 {
		o.BootServer = strings.TrimRight(string(s), "\x00") // dnsmasq ends it with one
	}
	o.PiBoot = bytes.Contains(m.Options.Get(dhcpv4.OptionVendorSpecificInformation), []byte(BootText))
	return o, true
}

// IsReply says that o is the like of what Reply makes: heard from a server
// address of ours, it is our own voice on another interface.
func (o Offer) IsReply() bool {
	return o.PiBoot && !o.Address.IsValid() && o.NextServer == o.Source &&
		(o.BootServer == o.Source.String() || o.BootServer == "")
}
