package nic

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"rubus/config/device"
)

// Sizes and numbers of Ethernet II, ARP (RFC 826), IPv4 (RFC 791) and UDP (RFC 768).
const (
	ethLen = 14
	arpLen = 28
	ipLen  = 20
	udpLen = 8

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	protoUDP  = 17

	arpRequest = 1
	arpReply   = 2

	// ttl is what captures of Pi firmware show.
	ttl = 128

	// MaxFrame is the longest frame read: an Ethernet MTU and room for a tag.
	MaxFrame = 1522
)

var broadcast = device.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// errNotOurs is any frame that firmware would pass over in silence.
var errNotOurs = errors.New("frame is not for this board")

// Datagram is one UDP datagram and the addresses it travelled under.
type Datagram struct {
	SrcMAC   device.MAC
	Src, Dst netip.AddrPort
	// Payload is valid until the next read.
	Payload []byte
}

type arpPacket struct {
	op                   uint16
	senderMAC, targetMAC device.MAC
	sender, target       netip.Addr
}

// appendEth appends an Ethernet header.
func appendEth(b []byte, dst, src device.MAC, etherType uint16) []byte {
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// splitEth takes a frame apart.
func splitEth(b []byte) (dst, src device.MAC, etherType uint16, payload []byte, err error) {
	if len(b) < ethLen {
		return dst, src, 0, nil, errNotOurs
	}
	return device.MAC(b[0:6]), device.MAC(b[6:12]), binary.BigEndian.Uint16(b[12:14]), b[ethLen:], nil
}

func appendARP(b []byte, p arpPacket) []byte {
	// Hardware type 1 (Ethernet), protocol IPv4, address lengths 6 and 4.
	b = append(b, 0, 1, 0x08, 0x00, 6, 4)
	b = binary.BigEndian.AppendUint16(b, p.op)
	b = append(b, p.senderMAC[:]...)
	b = append4(b, p.sender)
	b = append(b, p.targetMAC[:]...)
	return append4(b, p.target)
}

func parseARP(b []byte) (arpPacket, error) {
	if len(b) < arpLen || binary.BigEndian.Uint64(b[:8])>>16 != 0x0001_0800_0604 {
		return arpPacket{}, errNotOurs
	}
	return arpPacket{
		op:        binary.BigEndian.Uint16(b[6:8]),
		senderMAC: device.MAC(b[8:14]), sender: netip.AddrFrom4([4]byte(b[14:18])),
		targetMAC: device.MAC(b[18:24]), target: netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}

// appendUDP appends an IPv4 header, a UDP header and the payload. The
// identification is 0, as in captures of firmware; checksum says whether UDP's
// is filled in or left 0 ("none", RFC 768).
func appendUDP(b []byte, src, dst netip.AddrPort, payload []byte, checksum bool) []byte {
	start := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+udpLen+len(payload)))
	b = append(b, 0, 0, 0, 0, ttl, protoUDP, 0, 0)
	b = append4(b, src.Addr())
	b = append4(b, dst.Addr())
	binary.BigEndian.PutUint16(b[start+10:], ^fold(sum(b[start:], 0)))
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 0, 0)
	b = append(b, payload...)
	if checksum {
		c := udpChecksum(b[start:start+ipLen], b[udp:])
		if c == 0 {
			c = 0xffff // RFC 768: 0 means "none".
		}
		binary.BigEndian.PutUint16(b[udp+6:], c)
	}
	return b
}

// parseUDP takes an IPv4 packet with a UDP datagram apart. Fragments are
// dropped: firmware does not put them together. The UDP checksum is checked
// only when verify is set; see Link.Checksums.
func parseUDP(b []byte, verify bool) (Datagram, error) {
	if len(b) < ipLen || b[0]>>4 != 4 {
		return Datagram{}, errNotOurs
	}
	head, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:4]))
	if head < ipLen || total < head+udpLen || total > len(b) || b[9] != protoUDP {
		return Datagram{}, errNotOurs
	}
	const moreFragmentsOrOffset = 0x3fff
	if binary.BigEndian.Uint16(b[6:8])&moreFragmentsOrOffset != 0 || fold(sum(b[:head], 0)) != 0xffff {
		return Datagram{}, errNotOurs
	}
	u := b[head:total]
	n := int(binary.BigEndian.Uint16(u[4:6]))
	if n < udpLen || n > len(u) {
		return Datagram{}, errNotOurs
	}
	u = u[:n]
	if verify && binary.BigEndian.Uint16(u[6:8]) != 0 && udpChecksum(b[:ipLen], u) != 0 {
		return Datagram{}, errNotOurs
	}
	return Datagram{
		Src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(u[0:2])),
		Dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(u[2:4])),
		Payload: u[udpLen:],
	}, nil
}

func append4(b []byte, a netip.Addr) []byte {
	v4 := [4]byte{}
	if a.Is4() {
		v4 = a.As4()
	}
	return append(b, v4[:]...)
}

// udpChecksum is UDP's over the pseudo header (RFC 768); 0 when the sum over a
// datagram with its checksum in place is right.
func udpChecksum(ip, udp []byte) uint16 {
	s := sum(ip[12:20], protoUDP+uint32(len(udp)))
	return ^fold(sum(udp, s))
}

func sum(b []byte, s uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}
