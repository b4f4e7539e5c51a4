package simnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/fakepi/nic"
	"rubus/config/device"
)

// Router is the address server of an ordinary site: it hands out addresses and
// knows nothing of booting. It is a machine of its own on the link, so that it
// shares neither ports nor addresses with the host.
type Router struct {
	// Link is its network card.
	Link nic.Link
	// Addr is its address and the network that addresses are from; First and
	// Last bound them.
	Addr        netip.Prefix
	First, Last netip.Addr
	// Lease is how long an address is good for.
	Lease time.Duration

	leases map[device.MAC]netip.Addr
	next   netip.Addr
}

// routerMAC is locally administered.
var routerMAC = device.MAC{0x02, 0x72, 0x75, 0x62, 0x75, 0xfe}

const (
	serverPort = 67
	clientPort = 68
)

// Run answers until ctx is done, which is no error, or the link fails.
func (r *Router) Run(ctx context.Context) error {
	r.leases, r.next = map[device.MAC]netip.Addr{}, r.First
	s := nic.NewStack(r.Link, routerMAC)
	s.Checksum = true
	s.SetAddr(r.Addr, netip.Addr{})
	for {
		d, err := s.Receive(ctx, time.Now().Add(time.Minute))
		switch {
		case errors.Is(err, nic.ErrTimeout):
			continue
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the address server: %w", err)
		case d.Dst.Port() != serverPort:
			continue
		}
		reply, to := r.answer(d.Payload)
		if reply == nil {
			continue
		}
		// Who has no answer to ARP gets no answer.
		err = s.Send(ctx, serverPort, netip.AddrPortFrom(to, clientPort), reply)
		if err != nil && !errors.Is(err, nic.ErrNoARP) && ctx.Err() == nil {
			return fmt.Errorf("the address server: %w", err)
		}
	}
}

// answer makes the reply to a packet and says where it goes; nil: none.
func (r *Router) answer(b []byte) (reply []byte, to netip.Addr) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest || len(m.ClientHWAddr) != 6 {
		return nil, to
	}
	addr, ok := r.address(device.MAC(m.ClientHWAddr))
	if !ok {
		return nil, to
	}
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
		server := m.ServerIdentifier()
		if server != nil && server.String() != r.Addr.Addr().String() {
			return nil, to // The client took another's offer.
		}
		if want := wanted(m); want != addr {
			kind = dhcpv4.MessageTypeNak
		}
	} else if m.MessageType() != dhcpv4.MessageTypeDiscover {
		return nil, to
	}
	p, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(r.Addr.Addr().AsSlice())))
	if err != nil {
		return nil, to
	}
	if kind != dhcpv4.MessageTypeNak {
		p.YourIPAddr = addr.AsSlice()
		mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-r.Addr.Bits()))
		p.UpdateOption(dhcpv4.OptSubnetMask(mask))
		p.UpdateOption(dhcpv4.OptIPAddressLeaseTime(r.Lease))
	}
	to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if c, ok := netip.AddrFromSlice(m.ClientIPAddr.To4()); ok && !c.IsUnspecified() && kind == dhcpv4.MessageTypeAck {
		to = c // A renewal: RFC 2131, section 4.1.
	}
	return p.ToBytes(), to
}

// wanted is the address a REQUEST is for: option 50, or ciaddr in a renewal.
func wanted(m *dhcpv4.DHCPv4) netip.Addr {
	ip := m.RequestedIPAddress().To4()
	if ip == nil {
		ip = m.ClientIPAddr.To4()
	}
	a, _ := netip.AddrFromSlice(ip)
	return a
}

// address is the one a card has or gets.
func (r *Router) address(mac device.MAC) (netip.Addr, bool) {
	if a, ok := r.leases[mac]; ok {
		return a, true
	}
	a := r.next
	if r.Last.Less(a) {
		return netip.Addr{}, false
	}
	r.leases[mac], r.next = a, a.Next()
	return a, true
}
