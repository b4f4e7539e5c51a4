package dhcplink

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"rubus/config/device"
)

// FlagBroadcast asks for an answer by broadcast (RFC 2131, section 2).
const FlagBroadcast = 0x8000

// Header is what an answer takes over from a client's message, and what decides
// where it goes. It is comparable and holds nothing of the packet.
type Header struct {
	// Type is the message type.
	Type dhcpv4.MessageType
	// XID, Secs, Flags, Hops, CIAddr and GIAddr are the BOOTP fields of these
	// names (RFC 2131, section 2). XID tells no two Pi 3 apart. An address is
	// invalid where the message has 0.0.0.0.
	XID            uint32
	Secs, Flags    uint16
	Hops           uint8
	CIAddr, GIAddr netip.Addr
	// RelayInfo is option 82 as a relay added it (RFC 3046); "": none.
	RelayInfo string
	// MAC is the client's hardware address.
	MAC device.MAC
}

// HeaderOf reads a message; ok is false when it is no client's, or that of a
// client without an Ethernet address of its own.
func HeaderOf(m *dhcpv4.DHCPv4) (h Header, ok bool) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 {
		return Header{}, false
	}
	h = Header{
		Type: m.MessageType(), XID: binary.BigEndian.Uint32(m.TransactionID[:]), Secs: m.NumSeconds, Flags: m.Flags,
		Hops: m.HopCount, RelayInfo: string(m.Options.Get(dhcpv4.OptionRelayAgentInformation)),
		CIAddr: Address(m.ClientIPAddr.To4()), GIAddr: Address(m.GatewayIPAddr.To4()), MAC: device.MAC(m.ClientHWAddr),
	}
	return h, h.Type != dhcpv4.MessageTypeNone && !h.MAC.IsZero() && h.MAC[0]&1 == 0
}

// Address is an IPv4 address of 4 bytes; invalid for other lengths and 0.0.0.0.
func Address(b []byte) netip.Addr {
	if len(b) != 4 || [4]byte(b) == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// IsUnicast says that an address can be a host's.
func IsUnicast(a netip.Addr) bool {
	return a.Is4() && !a.IsMulticast() && !a.IsLoopback() && !a.IsUnspecified() && a.As4()[0] < 240
}

// Answer is a server's message. Options stand in it in the order in which they
// were added: firmware is known to take one order, and libraries have another.
type Answer struct {
	b     []byte
	relay string
}

// NewAnswer begins an answer: the BOOTP fields, and the message type. All
// addresses may be invalid, which is 0.0.0.0.
func NewAnswer(h Header, t dhcpv4.MessageType, your, next netip.Addr) *Answer {
	b := make([]byte, 236, 576)
	b[0], b[1], b[2], b[3] = byte(dhcpv4.OpcodeBootReply), 1, 6, h.Hops
	binary.BigEndian.PutUint32(b[4:], h.XID)
	binary.BigEndian.PutUint16(b[8:], h.Secs)
	binary.BigEndian.PutUint16(b[10:], h.Flags)
	for at, a := range map[int]netip.Addr{12: h.CIAddr, 16: your, 20: next, 24: h.GIAddr} {
		if a.Is4() {
			four := a.As4()
			copy(b[at:], four[:])
		}
	}
	copy(b[28:], h.MAC[:])
	b = append(b, 0x63, 0x82, 0x53, 0x63) // RFC 2131, section 3: the magic cookie
	a := &Answer{b: b, relay: h.RelayInfo}
	a.Add(dhcpv4.OptionDHCPMessageType, []byte{byte(t)})
	return a
}

// Add adds an option of at most 255 bytes; a longer one is left out.
func (a *Answer) Add(code dhcpv4.OptionCode, data []byte) {
	if len(data) > 255 {
		return
	}
	a.b = append(a.b, code.Code(), byte(len(data)))
	a.b = append(a.b, data...)
}

// AddAddresses adds an option that is a list of IPv4 addresses, if there are any.
func (a *Answer) AddAddresses(code dhcpv4.OptionCode, addrs ...netip.Addr) {
	var data []byte
	for _, x := range addrs {
		if x.Is4() {
			four := x.As4()
			data = append(data, four[:]...)
		}
	}
	if len(data) > 0 {
		a.Add(code, data)
	}
}

// minMessage is what a BOOTP message has at least: some relays and clients drop
// shorter ones (RFC 1542, section 2.1).
const minMessage = 300

// Bytes is the whole message. Nothing can be added after it.
func (a *Answer) Bytes() []byte {
	if n := len(a.relay); n > 0 {
		// RFC 3046, section 2.2: echoed unchanged, as the last option.
		a.Add(dhcpv4.OptionRelayAgentInformation, []byte(a.relay))
	}
	a.b = append(a.b, 255)
	if n := len(a.b); n < minMessage {
		a.b = append(a.b, make([]byte, minMessage-n)...)
	}
	return a.b
}

// Destination is who gets an answer on the link.
type Destination struct {
	MAC     device.MAC
	Address netip.Addr
}

// Everybody is all of the link.
func Everybody() Destination { return Destination{Broadcast(), ToClients().Addr()} }

// Deliver sends an answer from one of our addresses: to the relay that the
// message came by, at the server's port (RFC 2131, section 4.1), else on the link.
func Deliver(ctx context.Context, out Outlet, h Header, server netip.Addr, to Destination, payload []byte) error {
	from := netip.AddrPortFrom(server, ServerPort)
	if h.GIAddr.IsValid() {
		return out.Route(ctx, IPDatagram(from, netip.AddrPortFrom(h.GIAddr, ServerPort), payload), h.GIAddr)
	}
	l, ok := out.Link()
	if !ok {
		return errGone
	}
	return out.Send(ctx, Frame(l.MAC, to.MAC, from, netip.AddrPortFrom(to.Address, ClientPort), payload))
}
