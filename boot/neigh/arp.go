package neigh

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/arp"

	"rubus/config/device"
)

const (
	etherLen = 14
	etherARP = 0x0806
	minFrame = 60 // Ethernet's, without the checksum
)

func broadcastMAC() device.MAC { return device.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// claim is what an ARP message says of its sender. A message of either
// operation is a sign of life (RFC 826).
type claim struct {
	mac device.MAC
	ip  netip.Addr // unspecified in a probe (RFC 5227)
}

var errARP = errors.New("no ARP message for IPv4 over Ethernet")

// parseARP reads an Ethernet frame.
func parseARP(frame []byte) (claim, error) {
	if len(frame) < etherLen || binary.BigEndian.Uint16(frame[12:]) != etherARP {
		return claim{}, errARP
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(frame[etherLen:]); err != nil {
		return claim{}, errARP
	}
	const ethernet, ipv4 = 1, 0x0800
	if p.HardwareType != ethernet || p.ProtocolType != ipv4 || len(p.SenderHardwareAddr) != 6 || !p.SenderIP.Is4() {
		return claim{}, errARP
	}
	c := claim{mac: device.MAC(p.SenderHardwareAddr), ip: p.SenderIP}
	if c.mac.IsZero() || c.mac[0]&1 != 0 {
		return claim{}, errARP
	}
	return c, nil
}

// arpRequest is the frame that asks dst (everybody, or one) who has an address.
func arpRequest(source device.MAC, src netip.Addr, dst device.MAC, ip netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, source.HardwareAddr(), src, make([]byte, 6), ip)
	if err != nil {
		return nil, err
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, minFrame)
	b = append(append(b, dst[:]...), source[:]...)
	b = binary.BigEndian.AppendUint16(b, etherARP)
	return append(b, body...)[:minFrame], nil
}
