package dhcplink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"rubus/config/device"
)

const (
	ServerPort = 67 // of DHCP, UDP
	ClientPort = 68 // of DHCP, UDP

	etherLen  = 14
	etherIPv4 = 0x0800
	ipLen     = 20
	udpLen    = 8
	protoUDP  = 17
)

// Datagram is a UDP datagram over IPv4, taken out of an Ethernet frame.
type Datagram struct {
	// Source is the sender in the frame, which may be a router.
	Source   device.MAC
	Src, Dst netip.AddrPort
	Payload  []byte
}

var errFrame = errors.New("no whole UDP datagram in an Ethernet frame")

// ParseFrame reads an Ethernet frame. The payload shares its bytes.
//
// Checksums are not looked at: frames of the same host and of virtual machines
// reach a packet socket before theirs are computed, and the ROM of the Pi 3
// sends none. What Parse makes of the payload is checked in full.
func ParseFrame(frame []byte) (Datagram, error) {
	if len(frame) < etherLen+ipLen+udpLen || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return Datagram{}, errFrame
	}
	ip := frame[etherLen:]
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	fragment := binary.BigEndian.Uint16(ip[6:]) & 0x3fff // more-fragments and offset
	if ip[0]>>4 != 4 || header < ipLen || total < header+udpLen || total > len(ip) || fragment != 0 || ip[9] != protoUDP {
		return Datagram{}, errFrame
	}
	udp := ip[header:total] // what follows is Ethernet padding
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if n < udpLen || n > len(udp) {
		return Datagram{}, errFrame
	}
	port := func(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
	return Datagram{
		Source:  device.MAC(frame[6:12]),
		Src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), port(udp)),
		Dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), port(udp[2:])),
		Payload: udp[udpLen:n],
	}, nil
}

// Frame is the Ethernet frame that carries a DHCP message. Its checksums are
// valid: EEPROMs drop a datagram with a wrong one.
func Frame(source, dest device.MAC, src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 0, etherLen+ipLen+udpLen+len(payload))
	b = append(b, dest[:]...)
	b = append(b, source[:]...)
	b = binary.BigEndian.AppendUint16(b, etherIPv4)
	return append(b, IPDatagram(src, dst, payload)...)
}

// Broadcast is everybody on a link.
func Broadcast() device.MAC { return device.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// ToClients is the client port of everybody on a link.
func ToClients() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), ClientPort)
}

// IPDatagram is an IPv4 packet with a UDP datagram in it. Both are IPv4.
func IPDatagram(src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, ipLen+udpLen, ipLen+udpLen+len(payload))
	s, d := src.Addr().As4(), dst.Addr().As4()
	b[0], b[8], b[9] = 0x45, 64, protoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], ^sum(0, b[:ipLen]))

	udp := b[ipLen:]
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpLen+len(payload)))
	pseudo := []byte{0, protoUDP, udp[4], udp[5]}
	check := ^sum(sum(sum(sum(sum(0, s[:]), d[:]), pseudo), udp), payload)
	if check == 0 {
		check = 0xffff // RFC 768: zero means "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return append(b, payload...)
}

// sum adds b to a one's complement sum (RFC 1071). Only the last piece of a
// message may have an odd length.
func sum(start uint16, b []byte) uint16 {
	s := uint32(start)
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
