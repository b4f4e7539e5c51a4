package proxydhcp

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestReplyGoldens(t *testing.T) {
	for _, name := range []string{"pi3-rom", "bootcode", "pi4", "pi5-relayed"} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(packet(t, "discover-"+name))
			if err != nil {
				t.Fatal(err)
			}
			got := Reply(req, netip.MustParseAddr("10.0.0.1"))
			if d := cmp.Diff(packet(t, "offer-"+name), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReplyHeader(t *testing.T) {
	in := at(packet(t, "discover-pi4"), 8, 0, 9, 0x00, 0x01)
	req, err := Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv4.FromBytes(Reply(req, netip.MustParseAddr("192.168.100.200")))
	if err != nil {
		t.Fatal(err)
	}
	if m.NumSeconds != 9 || m.Flags != 0x8001 || !m.YourIPAddr.IsUnspecified() || m.ServerIPAddr.String() != "192.168.100.200" ||
		m.TFTPServerName() != "192.168.100.200" || m.ServerHostName != "" || m.BootFileName != "" {
		t.Error(m.Summary())
	}
}

func TestNoReply(t *testing.T) {
	pi4 := packet(t, "discover-pi4")
	for name, c := range map[string]struct {
		in     []byte
		server string
	}{
		"REQUEST":       {edit(t, pi4, map[uint8][]byte{53: {3}}), "10.0.0.1"},
		"INFORM":        {edit(t, pi4, map[uint8][]byte{53: {8}}), "10.0.0.1"},
		"RELEASE":       {edit(t, pi4, map[uint8][]byte{53: {7}}), "10.0.0.1"},
		"IPv6 server":   {pi4, "2001:db8::1"},
		"mapped server": {pi4, "::ffff:10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := Reply(req, netip.MustParseAddr(c.server)); got != nil {
				t.Errorf("answered with % x", got)
			}
		})
	}
}

// An option 82 of RFC 3396 length is one that no relay of ours makes.
func TestReplyLongRelayInfo(t *testing.T) {
	req, err := Parse(packet(t, "discover-pi5-relayed"))
	if err != nil {
		t.Fatal(err)
	}
	req.RelayInfo = string(bytes.Repeat([]byte{1}, 256))
	m, err := dhcpv4.FromBytes(Reply(req, netip.MustParseAddr("10.0.0.1")))
	if err != nil || m.Options.Has(dhcpv4.OptionRelayAgentInformation) {
		t.Errorf("%v, %v", m, err)
	}
}
