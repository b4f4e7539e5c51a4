package dhcplink

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"
)

var testServer = netip.MustParseAddr("10.0.0.1")

// discoverFrame is the frame in which a board sends a packet.
func discoverFrame(source [6]byte, payload []byte) []byte {
	b := Frame(source, Broadcast(), netip.AddrPortFrom(netip.IPv4Unspecified(), ClientPort), netip.AddrPortFrom(ToClients().Addr(), ServerPort), payload)
	b[40], b[41] = 0, 0 // a Pi 3 sends no checksum
	return b
}

// offerFrame is the frame in which a server answers.
func offerFrame(source [6]byte, payload []byte) []byte {
	return Frame(source, Broadcast(), netip.AddrPortFrom(testServer, ServerPort), ToClients(), payload)
}

func TestFrame(t *testing.T) {
	payload := dhcptest.Packet(t, "offer-pi3-rom") // of odd length
	source := [6]byte{2, 0, 0, 0, 0, 1}
	b := offerFrame(source, payload)
	d, err := ParseFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Source != source || d.Src.String() != "10.0.0.1:67" || d.Dst.String() != "255.255.255.255:68" || b[0] != 0xff {
		t.Errorf("%v: %v -> %v", d.Source, d.Src, d.Dst)
	}
	if diff := cmp.Diff(payload, d.Payload); diff != "" {
		t.Error(diff)
	}
	if got := sum(0, b[14:34]); got != 0xffff {
		t.Errorf("IPv4 header sums to %04x", got)
	}
	pseudo := append(append([]byte(nil), b[26:34]...), 0, protoUDP, b[38], b[39])
	if got := sum(sum(0, pseudo), b[34:]); got != 0xffff {
		t.Errorf("UDP datagram sums to %04x", got)
	}
}

// A checksum that comes out as zero is sent as 0xffff (RFC 768).
func TestZeroChecksum(t *testing.T) {
	src := netip.AddrPortFrom(testServer, ServerPort)
	empty := IPDatagram(src, src, []byte{0, 0})
	b := IPDatagram(src, src, empty[26:28]) // the checksum itself: now all adds up to zero
	if b[26] != 0xff || b[27] != 0xff {
		t.Errorf("checksum %x", b[26:28])
	}
}

func TestParseFrame(t *testing.T) {
	good := discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, dhcptest.Packet(t, "discover-pi4"))
	padded := append(append([]byte(nil), good...), 0, 0, 0, 0, 0, 0)
	options := append(append(append([]byte(nil), good[:34]...), 0, 0, 0, 0), good[34:]...)
	options[14] = 0x46
	binary.BigEndian.PutUint16(options[16:], uint16(len(options)-14))
	for name, c := range map[string]struct {
		in []byte
		ok bool
	}{
		"as sent":                  {good, true},
		"Ethernet padding":         {padded, true},
		"IP options":               {options, true},
		"wrong checksums":          {dhcptest.At(dhcptest.At(good, 24, 1, 1), 40, 9, 9), true},
		"empty":                    {nil, false},
		"ARP":                      {dhcptest.At(good, 12, 8, 6), false},
		"VLAN tag":                 {dhcptest.At(good, 12, 0x81, 0), false},
		"IPv6":                     {dhcptest.At(good, 14, 0x65), false},
		"short IP header":          {dhcptest.At(good, 14, 0x44), false},
		"IP longer than the frame": {dhcptest.At(good, 16, 0xff, 0xff), false},
		"IP shorter than UDP":      {dhcptest.At(good, 16, 0, 27), false},
		"header beyond the packet": {dhcptest.At(good[:42], 14, 0x4f, 0, 0, 28), false},
		"TCP":                      {dhcptest.At(good, 23, 6), false},
		"first fragment":           {dhcptest.At(good, 20, 0x20, 0), false},
		"last fragment":            {dhcptest.At(good, 20, 0, 1), false},
		"do not fragment":          {dhcptest.At(good, 20, 0x40, 0), true},
		"UDP longer than IP":       {dhcptest.At(good, 38, 0xff, 0xff), false},
		"UDP shorter than itself":  {dhcptest.At(good, 38, 0, 7), false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := ParseFrame(c.in)
			if (err == nil) != c.ok {
				t.Fatalf("ParseFrame: %v", err)
			}
			if c.ok {
				if _, err := dhcpv4.FromBytes(d.Payload); err != nil || d.Dst.Port() != ServerPort {
					t.Errorf("%v, dst %v", err, d.Dst)
				}
			}
		})
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, name := range dhcptest.Names(f) {
		f.Add(discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, dhcptest.Packet(f, name)))
		f.Add(offerFrame([6]byte{2, 0, 0, 0, 0, 9}, dhcptest.Packet(f, name)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseFrame(b)
		if err != nil {
			return
		}
		if len(d.Payload) > len(b)-etherLen-ipLen-udpLen || !d.Src.Addr().Is4() {
			t.Fatalf("%d bytes of %d", len(d.Payload), len(b))
		}
		again, err := ParseFrame(append(append([]byte(nil), b[:14]...), IPDatagram(d.Src, d.Dst, d.Payload)...))
		if err != nil || again.Src != d.Src || again.Dst != d.Dst || string(again.Payload) != string(d.Payload) {
			t.Fatalf("built again: %+v, %v", again, err)
		}
	})
}
