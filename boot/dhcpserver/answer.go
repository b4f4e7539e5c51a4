package dhcpserver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// readAsk takes a message apart; ok is false when it is no client's.
func readAsk(m *dhcpv4.DHCPv4) (a *ask, ok bool) {
	h, ok := dhcplink.HeaderOf(m)
	if !ok {
		return nil, false
	}
	return &ask{
		Header: h, host: hostName(string(m.Options.Get(dhcpv4.OptionHostName))),
		wanted: dhcplink.Address(m.Options.Get(dhcpv4.OptionRequestedIPAddress)),
		server: dhcplink.Address(m.Options.Get(dhcpv4.OptionServerIdentifier)),
	}, true
}

// pack makes the answer to m that a verdict wants.
func pack(v verdict, a *ask, m *dhcpv4.DHCPv4, p Pool, sub subnet, manners pidhcp.Manners) []byte {
	h := a.Header
	var next netip.Addr
	if v.boot.Kind != 0 {
		next = sub.own
	}
	if v.answer != dhcpv4.MessageTypeAck {
		h.CIAddr = netip.Addr{}
	}
	if v.answer == dhcpv4.MessageTypeNak && h.GIAddr.IsValid() {
		h.Flags |= dhcplink.FlagBroadcast // RFC 2131, section 4.3.2: the client has no address
	}
	out := dhcplink.NewAnswer(h, v.answer, v.address, next)
	out.AddAddresses(dhcpv4.OptionServerIdentifier, sub.own)
	if v.answer != dhcpv4.MessageTypeNak {
		if v.address.IsValid() { // RFC 2131, table 3: no times in the answer to an INFORM
			out.Add(dhcpv4.OptionIPAddressLeaseTime, binary.BigEndian.AppendUint32(nil, uint32(p.Lease/time.Second)))
		}
		out.Add(dhcpv4.OptionSubnetMask, net.CIDRMask(sub.prefix.Bits(), 32))
		out.AddAddresses(dhcpv4.OptionRouter, p.Router)
		out.AddAddresses(dhcpv4.OptionDomainNameServer, p.DNS...)
		if p.Domain != "" {
			out.Add(dhcpv4.OptionDomainName, []byte(p.Domain))
		}
	}
	if v.boot.Kind != 0 && (v.answer == dhcpv4.MessageTypeOffer || !manners.PlainACK) {
		pidhcp.AddBoot(out, v.boot, sub.own, manners)
	}
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		out.Add(dhcpv4.OptionClientIdentifier, id) // RFC 6842
	}
	return out.Bytes()
}

// destination is who gets the answer on the link (RFC 2131, section 4.1).
// source is who sent the frame, which is a router when the client renews beyond one.
func destination(v verdict, a *ask, source device.MAC, d pidhcp.Delivery) dhcplink.Destination {
	switch {
	case v.answer == dhcpv4.MessageTypeNak:
		return dhcplink.Everybody()
	case a.CIAddr.IsValid():
		return dhcplink.Destination{MAC: source, Address: a.CIAddr}
	case d == pidhcp.ToAll, d != pidhcp.ToBoard && a.Flags&dhcplink.FlagBroadcast != 0:
		return dhcplink.Everybody()
	}
	// A Pi 3 takes any OFFER for its own: those with an address must not reach it.
	return dhcplink.Destination{MAC: a.MAC, Address: v.address}
}
