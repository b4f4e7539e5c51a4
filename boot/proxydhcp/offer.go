package proxydhcp

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

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

// offerFrom reads a server's message; ok is false for other types than OFFER
// and ACK.
func offerFrom(m *dhcpv4.DHCPv4, source netip.Addr) (o Offer, ok bool) {
	o.Type = m.MessageType()
	if o.Type != dhcpv4.MessageTypeOffer && o.Type != dhcpv4.MessageTypeAck || len(m.ClientHWAddr) != 6 {
		return Offer{}, false
	}
	o.Client = device.MAC(m.ClientHWAddr)
	o.Source = source
	o.ServerID = address(m.Options.Get(dhcpv4.OptionServerIdentifier))
	o.NextServer = address(m.ServerIPAddr.To4())
	o.Address = address(m.YourIPAddr.To4())
	if s := m.Options.Get(dhcpv4.OptionTFTPServerName); len(s) <= 255 {
		o.BootServer = strings.TrimRight(string(s), "\x00") // dnsmasq ends it with one
	}
	o.PiBoot = bytes.Contains(m.Options.Get(dhcpv4.OptionVendorSpecificInformation), []byte(bootText))
	return o, true
}

// address is an IPv4 address of 4 bytes; invalid for other lengths and 0.0.0.0.
func address(b []byte) netip.Addr {
	if len(b) != 4 || [4]byte(b) == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// isReply says that o is the like of what Reply makes: heard from a server
// address of ours, it is our own voice on another interface.
func (o Offer) isReply() bool {
	return o.PiBoot && !o.Address.IsValid() && o.ServerID == o.Source &&
		o.NextServer == o.Source && o.BootServer == o.Source.String()
}

// leaseBook remembers which addresses were offered to whom, the last few
// only: a board that asks again is answered from the subnet it will be in.
type leaseBook struct {
	entries [256]struct {
		mac  device.MAC
		addr netip.Addr
	}
	next int
}

// note replaces what is known of a MAC, or the oldest entry.
func (b *leaseBook) note(mac device.MAC, addr netip.Addr) {
	for i := range b.entries {
		if b.entries[i].mac == mac {
			b.entries[i].addr = addr
			return
		}
	}
	b.entries[b.next].mac, b.entries[b.next].addr = mac, addr
	b.next = (b.next + 1) % len(b.entries)
}

// address is the last address offered to a MAC; invalid: none known.
func (b *leaseBook) address(mac device.MAC) netip.Addr {
	for i := range b.entries {
		if b.entries[i].mac == mac {
			return b.entries[i].addr
		}
	}
	return netip.Addr{}
}
