package pidhcp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"
)

func TestReplyGoldens(t *testing.T) {
	for _, name := range []string{"pi3-rom", "bootcode", "pi4", "pi5-relayed"} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(dhcptest.Packet(t, "discover-"+name), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := Reply(req, netip.MustParseAddr("10.0.0.1"), DefaultManners())
			if d := cmp.Diff(dhcptest.Packet(t, "offer-"+name), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReplyHeader(t *testing.T) {
	in := dhcptest.At(dhcptest.Packet(t, "discover-pi4"), 8, 0, 9, 0x00, 0x01)
	req, err := Parse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv4.FromBytes(Reply(req, netip.MustParseAddr("192.168.100.200"), DefaultManners()))
	if err != nil {
		t.Fatal(err)
	}
	if m.NumSeconds != 9 || m.Flags != 0x8001 || !m.YourIPAddr.IsUnspecified() || m.ServerIPAddr.String() != "192.168.100.200" ||
		m.TFTPServerName() != "192.168.100.200" || m.ServerHostName != "" || m.BootFileName != "" {
		t.Error(m.Summary())
	}
}

func TestNoReply(t *testing.T) {
	pi4 := dhcptest.Packet(t, "discover-pi4")
	for name, c := range map[string]struct {
		in     []byte
		server string
	}{
		"REQUEST":       {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}}), "10.0.0.1"},
		"INFORM":        {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {8}}), "10.0.0.1"},
		"RELEASE":       {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {7}}), "10.0.0.1"},
		"IPv6 server":   {pi4, "2001:db8::1"},
		"mapped server": {pi4, "::ffff:10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(c.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := Reply(req, netip.MustParseAddr(c.server), DefaultManners()); got != nil {
				t.Errorf("answered with % x", got)
			}
		})
	}
}

// An option 82 of RFC 3396 length is one that no relay of ours makes.
func TestReplyLongRelayInfo(t *testing.T) {
	req, err := Parse(dhcptest.Packet(t, "discover-pi5-relayed"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.RelayInfo = string(bytes.Repeat([]byte{1}, 256))
	m, err := dhcpv4.FromBytes(Reply(req, netip.MustParseAddr("10.0.0.1"), DefaultManners()))
	if err != nil || m.Options.Has(dhcpv4.OptionRelayAgentInformation) {
		t.Errorf("%v, %v", m, err)
	}
}

// The OFFER as it is recommended, option by option, and what each key of a
// Manner changes about it.
func TestManners(t *testing.T) {
	const head = "350102" + "36040a000001" + "3c09505845436c69656e74"
	const opt66 = "4208" + "31302e302e302e31"
	menu := func(text string) string {
		v := "060103" + "0a0400505845" + fmt.Sprintf("09%02x0000%02x%x", 3+len(text), len(text), text) + "ff"
		return fmt.Sprintf("2b%02x%s", len(v)/2, v)
	}
	for name, c := range map[string]struct {
		change func(*Manners)
		want   string // GUID stands for option 97
	}{
		"as recommended": {func(*Manners) {}, head + opt66 + "GUID" + menu("Raspberry Pi Boot") + "ff"},
		"no option 66":   {func(m *Manners) { m.EEPROM.Option66 = false }, head + "GUID" + menu("Raspberry Pi Boot") + "ff"},
		"another text":   {func(m *Manners) { m.EEPROM.Text = "Lab" }, head + opt66 + "GUID" + menu("Lab") + "ff"},
		"padded":         {func(m *Manners) { m.EEPROM.Text += "   " }, head + opt66 + "GUID" + menu("Raspberry Pi Boot   ") + "ff"},
		"no option 43":   {func(m *Manners) { m.EEPROM.Text = "" }, head + opt66 + "GUID" + "ff"},
		"another option 54": {
			func(m *Manners) { m.ServerID = netip.MustParseAddr("10.0.0.2") },
			strings.Replace(head, "0a000001", "0a000002", 1) + opt66 + "GUID" + menu("Raspberry Pi Boot") + "ff",
		},
		"another firmware's": {func(m *Manners) { m.ROM.Text, m.Bootcode.Option66 = "x", false }, head + opt66 + "GUID" + menu("Raspberry Pi Boot") + "ff"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(dhcptest.Packet(t, "discover-pi4"), nil)
			if err != nil {
				t.Fatal(err)
			}
			m := DefaultManners()
			c.change(&m)
			b := Reply(req, netip.MustParseAddr("10.0.0.1"), m)
			want := strings.Replace(c.want, "GUID", fmt.Sprintf("6111%x", req.GUID), 1)
			got := hex.EncodeToString(b[240:])
			if len(b) < 300 || strings.TrimRight(got, "0") != strings.TrimRight(want, "0") {
				t.Errorf("options\n%s, want\n%s", got, want)
			}
		})
	}
}
