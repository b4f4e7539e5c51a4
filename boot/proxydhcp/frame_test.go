package proxydhcp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testServer = netip.MustParseAddr("10.0.0.1")

// discoverFrame is the frame in which a board sends a packet.
func discoverFrame(source [6]byte, payload []byte) []byte {
	b := broadcastFrame(source, netip.IPv4Unspecified(), payload)
	binary.BigEndian.PutUint16(b[34:], clientPort)
	binary.BigEndian.PutUint16(b[36:], serverPort)
	b[40], b[41] = 0, 0 // a Pi 3 sends no checksum
	return b
}

func TestBroadcastFrame(t *testing.T) {
	payload := packet(t, "offer-pi3-rom") // of odd length
	source := [6]byte{2, 0, 0, 0, 0, 1}
	b := broadcastFrame(source, testServer, payload)
	d, err := parseFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.source != source || d.src.String() != "10.0.0.1:67" || d.dst.String() != "255.255.255.255:68" || b[0] != 0xff {
		t.Errorf("%v: %v -> %v", d.source, d.src, d.dst)
	}
	if diff := cmp.Diff(payload, d.payload); diff != "" {
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
	src := netip.AddrPortFrom(testServer, serverPort)
	empty := ipDatagram(src, src, []byte{0, 0})
	b := ipDatagram(src, src, empty[26:28]) // the checksum itself: now all adds up to zero
	if b[26] != 0xff || b[27] != 0xff {
		t.Errorf("checksum %x", b[26:28])
	}
}

func TestParseFrame(t *testing.T) {
	good := discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, packet(t, "discover-pi4"))
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
		"wrong checksums":          {at(at(good, 24, 1, 1), 40, 9, 9), true},
		"empty":                    {nil, false},
		"ARP":                      {at(good, 12, 8, 6), false},
		"VLAN tag":                 {at(good, 12, 0x81, 0), false},
		"IPv6":                     {at(good, 14, 0x65), false},
		"short IP header":          {at(good, 14, 0x44), false},
		"IP longer than the frame": {at(good, 16, 0xff, 0xff), false},
		"IP shorter than UDP":      {at(good, 16, 0, 27), false},
		"header beyond the packet": {at(good[:42], 14, 0x4f, 0, 0, 28), false},
		"TCP":                      {at(good, 23, 6), false},
		"first fragment":           {at(good, 20, 0x20, 0), false},
		"last fragment":            {at(good, 20, 0, 1), false},
		"do not fragment":          {at(good, 20, 0x40, 0), true},
		"UDP longer than IP":       {at(good, 38, 0xff, 0xff), false},
		"UDP shorter than itself":  {at(good, 38, 0, 7), false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := parseFrame(c.in)
			if (err == nil) != c.ok {
				t.Fatalf("parseFrame: %v", err)
			}
			if c.ok {
				if _, err := Parse(d.payload); err != nil || d.dst.Port() != serverPort {
					t.Errorf("%v, dst %v", err, d.dst)
				}
			}
		})
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, name := range goldens(f) {
		f.Add(discoverFrame([6]byte{2, 0, 0, 0, 0, 9}, packet(f, name)))
		f.Add(broadcastFrame([6]byte{2, 0, 0, 0, 0, 9}, testServer, packet(f, name)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseFrame(b)
		if err != nil {
			return
		}
		if len(d.payload) > len(b)-etherLen-ipLen-udpLen || !d.src.Addr().Is4() {
			t.Fatalf("%d bytes of %d", len(d.payload), len(b))
		}
		again, err := parseFrame(append(append([]byte(nil), b[:14]...), ipDatagram(d.src, d.dst, d.payload)...))
		if err != nil || again.src != d.src || again.dst != d.dst || string(again.payload) != string(d.payload) {
			t.Fatalf("built again: %+v, %v", again, err)
		}
	})
}
