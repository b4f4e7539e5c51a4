package pidhcp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"

	"rubus/config/device"
)

type identity struct {
	Kind     Kind
	MAC      string
	Serial   string
	Revision string
	Loader   string
}

func TestParseGoldens(t *testing.T) {
	for name, want := range map[string]identity{
		"discover-pi3-rom":      {Pi3ROM, "b8:27:eb:6c:4c:16", "", "revision 000000", ""},
		"discover-bootcode":     {Bootcode, "b8:27:eb:6c:4c:16", "b66c4c16", "revision 000000", ""},
		"discover-pi4-2020":     {EEPROM, "dc:a6:32:2e:f8:ed", "5b154510", "4B 1.1 1 GiB", "2020-03-04"},
		"discover-pi4-2021":     {EEPROM, "dc:a6:32:2e:f8:ed", "5b154510", "4B 1.1 1 GiB", "2020-03-16 to 2022-02-08"},
		"discover-pi4":          {EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "4B 1.4 8 GiB", "2022-02-04 or later"},
		"discover-pi4-repeated": {EEPROM, "dc:a6:32:2e:f8:ed", "5b154510", "revision 000000", "before 2020-03-04, or DHCP_OPTION97=0"},
		"discover-pi5-relayed":  {EEPROM, "2c:cf:67:11:22:33", "deadbeef", "5 1.0 8 GiB", "2023-10-30 or later"},
	} {
		t.Run(name, func(t *testing.T) {
			b := dhcptest.Packet(t, name)
			req, err := Parse(b, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := identity{req.Kind, req.MAC.String(), req.Serial.String(), req.Revision.String(), req.Bootloader()}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if req.Type != dhcpv4.MessageTypeDiscover || req.XID != binary.BigEndian.Uint32(b[4:]) || string(req.GUID[:]) != string(guidOf(t, b)) {
				t.Errorf("type %v, xid %08x, guid %x", req.Type, req.XID, req.GUID)
			}
		})
	}
}

func guidOf(t testing.TB, b []byte) []byte {
	t.Helper()
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return m.Options[97]
}

func TestParseRelayed(t *testing.T) {
	req, err := Parse(dhcptest.Packet(t, "discover-pi5-relayed"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if req.GIAddr != netip.MustParseAddr("10.20.0.1") || req.Hops != 1 || req.RelayInfo != "\x01\x04eth7" {
		t.Errorf("giaddr %v, hops %d, option 82 %q", req.GIAddr, req.Hops, req.RelayInfo)
	}
}

// guid makes a structured option 97.
func guid(t testing.TB, hexed string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(hexed, " ", ""))
	if err != nil || len(b) != 17 {
		t.Fatalf("%q: %v", hexed, err)
	}
	return b
}

func TestParseForms(t *testing.T) {
	pi4, old := dhcptest.Packet(t, "discover-pi4"), dhcptest.Packet(t, "discover-bootcode")
	with := func(hexed string) []byte { return dhcptest.Edit(t, pi4, map[uint8][]byte{97: guid(t, hexed)}) }
	for name, c := range map[string]struct {
		in   []byte
		want identity
	}{
		"own FourCC, MAC matches": {
			with("00 12345678 1431d000 010902f7 3df0cd91"),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "4B 1.4 8 GiB", `unknown: DHCP_OPTION97 is set to "\x124Vx"`},
		},
		"MAC overridden": {
			with("00 34695052 1431d000 99999999 3df0cd91"),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "4B 1.4 8 GiB", "2022-02-04 or later"},
		},
		"RPi5 in the other byte order": {
			with("00 52506935 7041d000 010902f7 3df0cd91"),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "5 1.0 8 GiB", `unknown: DHCP_OPTION97 is set to "RPi5"`},
		},
		"Pi 5 before 2023-10-30": {
			with("00 34695052 7041d000 010902f7 3df0cd91"),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "5 1.0 8 GiB", "before 2023-10-30"},
		},
		"a board newer than this program": {
			with("00 35695052 f051d000 010902f7 3df0cd91"),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "revision d051f0", "2023-10-30 or later"},
		},
		"repeated serial, own xid, late bootcode.bin": {
			dhcptest.At(old, 4, 1, 2, 3, 4),
			identity{Bootcode, "b8:27:eb:6c:4c:16", "b66c4c16", "revision 000000", ""},
		},
		"repeated serial, MAC of a USB adapter": {
			dhcptest.At(old, 28, 0, 0x11, 0x22, 0x33, 0x44, 0x55),
			identity{Bootcode, "00:11:22:33:44:55", "b66c4c16", "revision 000000", ""},
		},
		"REQUEST": {
			dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}}),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "4B 1.4 8 GiB", "2022-02-04 or later"},
		},
		"REQUEST without option 60": {
			dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 60: nil}),
			identity{EEPROM, "e4:5f:01:09:02:f7", "91cdf03d", "4B 1.4 8 GiB", "2022-02-04 or later"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(c.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := identity{req.Kind, req.MAC.String(), req.Serial.String(), req.Revision.String(), req.Bootloader()}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseReasons(t *testing.T) {
	pi4, rom := dhcptest.Packet(t, "discover-pi4"), dhcptest.Packet(t, "discover-pi3-rom")
	with := func(code uint8, data []byte) []byte { return dhcptest.Edit(t, pi4, map[uint8][]byte{code: data}) }
	for name, c := range map[string]struct {
		in   []byte
		want Reason
	}{
		"empty":                       {nil, Malformed},
		"truncated header":            {pi4[:200], Malformed},
		"truncated options":           {pi4[:300], Malformed},
		"no cookie":                   {dhcptest.At(pi4, 236, 0, 0, 0, 0), Malformed},
		"BOOTP without options":       {append(append([]byte(nil), pi4[:240]...), 255), NotRequest},
		"a server's reply":            {dhcptest.Packet(t, "offer-pi4"), NotRequest},
		"token ring":                  {dhcptest.At(pi4, 1, 6), NotEthernet},
		"long hardware address":       {dhcptest.At(pi4, 2, 8), NotEthernet},
		"no hardware address":         {dhcptest.At(pi4, 28, 0, 0, 0, 0, 0, 0), NotEthernet},
		"multicast hardware address":  {dhcptest.At(pi4, 28, 1), NotEthernet},
		"dhclient":                    {with(60, nil), NotPXE},
		"klibc ipconfig":              {with(60, []byte("Linux ipconfig")), NotPXE},
		"U-Boot":                      {dhcptest.Packet(t, "discover-uboot"), NotPXE},
		"UEFI on a Pi 4":              {with(60, []byte("PXEClient:Arch:00011:UNDI:003016")), OtherPXE},
		"vendor class ends in NUL":    {with(60, []byte(piVendorClass+"\x00")), OtherPXE},
		"iPXE":                        {dhcptest.Packet(t, "discover-ipxe"), IPXE},
		"iPXE with a Pi's identity":   {with(77, []byte("iPXE")), IPXE},
		"iPXE's user class, RFC 3004": {with(77, []byte("\x04iPXE")), IPXE},
		"iPXE's own options":          {with(175, []byte{0xb1, 0}), IPXE},
		"no GUID":                     {with(97, nil), NoGUID},
		"short GUID":                  {with(97, make([]byte, 16)), NoGUID},
		"GUID of type 1":              {with(97, guid(t, "01 34695052 1431d000 010902f7 3df0cd91")), NoGUID},
		"PC":                          {dhcptest.Packet(t, "discover-pc"), ForeignGUID},
		"UUID not present":            {with(97, guid(t, "00 ffffffff ffffffff ffffffff ffffffff")), ForeignGUID},
		"UUID not set":                {with(97, guid(t, "00 00000000 00000000 00000000 00000000")), ForeignGUID},
		"UUID of a cheap board":       {with(97, guid(t, "00 00020003 00040005 00060007 00080009")), ForeignGUID},
		"serial zero":                 {with(97, guid(t, "00 34695052 1431d000 010902f7 00000000")), ForeignGUID},
		"old-style revision":          {with(97, guid(t, "00 34695052 10000000 010902f7 3df0cd91")), ForeignGUID},
		"nothing but a revision":      {with(97, guid(t, "00 12345678 1431d000 11223344 3df0cd91")), ForeignGUID},
		"REQUEST of a PC's system":    {dhcptest.Edit(t, dhcptest.Packet(t, "discover-pc"), map[uint8][]byte{53: {3}, 60: nil}), ForeignGUID},
		"REQUEST without identity":    {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 60: nil, 97: nil}), NotPXE},
		"REQUEST of another class":    {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 60: []byte("MSFT 5.0")}), NotPXE},
		"ROM, but an address of none": {dhcptest.At(rom, 28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), NotEthernet},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(c.in, nil)
			if !errors.Is(err, c.want) || req != (Request{}) {
				t.Errorf("Parse: %+v, %v; want %v", req, err, c.want)
			}
		})
	}
}

// Every prefix of a request is refused with a reason, never a panic.
func TestParseTruncated(t *testing.T) {
	b := dhcptest.Packet(t, "discover-pi5-relayed")
	for n := range b {
		if _, err := Parse(b[:n], nil); err != Malformed && err != NotRequest {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range dhcptest.Names(f) {
		f.Add(dhcptest.Packet(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := Parse(b, device.PiOUIs())
		var reason Reason
		if err != nil {
			if !errors.As(err, &reason) {
				t.Fatalf("%v is no Reason", err)
			}
			return
		}
		if req.MAC.IsZero() || req.Kind.String() == "unknown" || req.Kind == Pi3ROM && !req.Serial.IsZero() {
			t.Fatalf("no identity: %+v", req)
		}
		reply := Reply(req, netip.MustParseAddr("192.0.2.1"), DefaultManners())
		if (reply == nil) != (req.Type != dhcpv4.MessageTypeDiscover) {
			t.Fatalf("reply to %v: %x", req.Type, reply)
		}
		if reply == nil {
			return
		}
		if _, err := dhcpv4.FromBytes(reply); err != nil || len(reply) > 548+257 {
			t.Fatalf("our reply: %d bytes, %v", len(reply), err)
		}
	})
}

// A card's maker is a hint only: it makes a Pi of a PXE client whose option 97
// says nothing, and takes nothing from one that is a Pi by its option 97.
func TestOUI(t *testing.T) {
	foreign := map[uint8][]byte{97: guid(t, "00 00020003 00040005 00060007 00080009")}
	pi4, rom := dhcptest.Packet(t, "discover-pi4"), dhcptest.Packet(t, "discover-pi3-rom")
	other := device.OUIs{{1, 2, 3}}
	for name, c := range map[string]struct {
		in   []byte
		ouis device.OUIs
		kind Kind // 0: no Pi
	}{
		"foreign GUID":                    {dhcptest.Edit(t, pi4, foreign), device.PiOUIs(), EEPROM},
		"no GUID":                         {dhcptest.Edit(t, pi4, map[uint8][]byte{97: nil}), device.PiOUIs(), EEPROM},
		"foreign GUID of a Pi 3":          {dhcptest.Edit(t, rom, foreign), device.PiOUIs(), Bootcode},
		"foreign GUID, another maker":     {dhcptest.Edit(t, pi4, foreign), other, 0},
		"foreign GUID, no makers":         {dhcptest.Edit(t, pi4, foreign), nil, 0},
		"good GUID, another maker":        {pi4, other, EEPROM},
		"a Pi's maker, no PXE":            {dhcptest.Edit(t, pi4, map[uint8][]byte{60: nil}), device.PiOUIs(), 0},
		"a Pi's maker, iPXE":              {dhcptest.Edit(t, pi4, map[uint8][]byte{77: []byte("iPXE")}), device.PiOUIs(), 0},
		"a Pi's maker, UEFI":              {dhcptest.Edit(t, pi4, map[uint8][]byte{60: []byte("PXEClient:Arch:00011:UNDI:003016")}), device.PiOUIs(), 0},
		"a Pi's maker, REQUEST of the OS": {dhcptest.Edit(t, pi4, map[uint8][]byte{53: {3}, 60: nil, 97: nil}), device.PiOUIs(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := Parse(c.in, c.ouis)
			if req.Kind != c.kind || (err == nil) != (c.kind != 0) {
				t.Fatalf("%v, %v", req.Kind, err)
			}
			if strings.HasPrefix(name, "foreign") && err == nil && (!req.Serial.IsZero() || req.Revision != 0) {
				t.Errorf("an identity of nothing: %v, %v", req.Serial, req.Revision)
			}
		})
	}
	for _, s := range []string{"b8:27:eb:0:0:1", "88:a2:9e:0:0:1"} {
		var m device.MAC
		if _, err := fmt.Sscanf(s, "%x:%x:%x", &m[0], &m[1], &m[2]); err != nil || !device.PiOUIs().Has(m) {
			t.Errorf("%s is a Pi's maker", s)
		}
	}
}

// The packets have the lengths that captures show, which proves that nothing is
// missing in them.
func TestReferenceLengths(t *testing.T) {
	for name, want := range map[string]int{
		"discover-pi3-rom": 320, "discover-bootcode": 322, "discover-pi4": 322, "discover-pi4-2020": 322, "discover-pi4-2021": 322,
	} {
		if n := len(dhcptest.Packet(t, name)); n != want {
			t.Errorf("%s has %d bytes, want %d", name, n, want)
		}
	}
}
