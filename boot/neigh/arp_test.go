package neigh

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/net/bpf"

	"rubus/config/device"
)

var (
	piMAC    = device.MAC{0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed}
	otherMAC = device.MAC{2, 0, 0, 0, 0, 2}
	piIP     = netip.MustParseAddr("10.0.0.50")
	ownIP    = netip.MustParseAddr("10.0.0.1")
)

// request is what RFC 826 makes of a question for 10.0.0.50.
const request = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a000001 000000000000 0a000032 000000000000000000000000000000000000"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits []byte
	for i := range len(s) {
		if s[i] != ' ' {
			digits = append(digits, s[i])
		}
	}
	b, err := hex.DecodeString(string(digits))
	must(t, err)
	return b
}

func TestARPRequest(t *testing.T) {
	got, err := arpRequest(otherMAC, ownIP, broadcastMAC(), piIP)
	must(t, err)
	if d := cmp.Diff(unhex(t, request), got); d != "" {
		t.Error(d)
	}
	if _, err := arpRequest(otherMAC, netip.Addr{}, piMAC, piIP); err == nil {
		t.Error("no error without a source address")
	}
}

func TestParseARP(t *testing.T) {
	good := unhex(t, request)
	with := func(offset int, b ...byte) []byte {
		c := append([]byte(nil), good...)
		copy(c[offset:], b)
		return c
	}
	for name, c := range map[string]struct {
		in   []byte
		want claim
		ok   bool
	}{
		"request":            {good, claim{otherMAC, ownIP}, true},
		"reply":              {with(21, 2), claim{otherMAC, ownIP}, true},
		"probe of RFC 5227":  {with(28, 0, 0, 0, 0), claim{otherMAC, netip.IPv4Unspecified()}, true},
		"without padding":    {good[:42], claim{otherMAC, ownIP}, true},
		"truncated":          {good[:41], claim{}, false},
		"no frame":           {good[:13], claim{}, false},
		"empty":              {nil, claim{}, false},
		"IPv4":               {with(12, 8, 0), claim{}, false},
		"token ring":         {with(15, 6), claim{}, false},
		"another protocol":   {with(16, 0x86, 0xdd), claim{}, false},
		"long addresses":     {with(18, 255, 255), claim{}, false},
		"IPv6-long address":  {with(19, 16), claim{}, false},
		"sender is none":     {with(22, 0, 0, 0, 0, 0, 0), claim{}, false},
		"sender is everyone": {with(22, 255), claim{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseARP(c.in)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func FuzzParseARP(f *testing.F) {
	good := unhex(f, request)
	f.Add(good)
	f.Add(good[:42])
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseARP(b)
		if err == nil && (c.mac.IsZero() || !c.ip.Is4()) {
			t.Fatalf("%+v", c)
		}
	})
}

// Who is asked for is heard, and whoever has the address: nobody else, however many talk.
func TestARPFilter(t *testing.T) {
	own, other := device.MAC{2, 0, 0, 0, 0, 1}, device.MAC{0xdc, 0xa6, 0x32, 1, 2, 4}
	board, asked := device.MAC{0xdc, 0xa6, 0x32, 1, 2, 3}, netip.MustParseAddr("10.0.0.50")
	vm, err := bpf.NewVM(arpFilter(asked, board))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mac  device.MAC
		ip   string
		want bool
	}{
		"the board":                 {board, "10.0.0.50", true},
		"the board elsewhere":       {board, "10.0.0.51", true},
		"the board without address": {board, "0.0.0.0", true},
		"another with the address":  {other, "10.0.0.50", true},
		"another, last byte":        {other, "10.0.0.51", false},
		"another, first bytes":      {device.MAC{2, 0xa6, 0x32, 1, 2, 3}, "10.0.0.51", false},
		"another for the address":   {own, "10.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			frame, err := arpRequest(c.mac, netip.MustParseAddr(c.ip), broadcastMAC(), asked)
			if err != nil {
				t.Fatal(err)
			}
			n, err := vm.Run(frame)
			if err != nil || (n > 0) != c.want || n > 0 && n < len(frame) {
				t.Errorf("%d bytes pass (%v)", n, err)
			}
		})
	}
}
