package neigh

import (
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func TestEcho(t *testing.T) {
	e := echo{ip: netip.MustParseAddr("192.0.2.9"), own: ownIP, token: [16]byte{1, 2, 3}}
	router := netip.MustParseAddr("10.0.0.254")
	message := func(m icmp.Message) []byte {
		b, err := m.Marshal(nil)
		must(t, err)
		return b
	}
	reply := func(id int, data []byte) []byte {
		return message(icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: id, Seq: 3, Data: data}})
	}
	req, err := e.request(3)
	must(t, err)
	quote := append([]byte{0x45, 0, 0, 44, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9}, req...)
	unreachable := func(code int, quote []byte) []byte {
		return message(icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: code, Body: &icmp.DstUnreach{Data: quote}})
	}
	foreign := append([]byte(nil), quote...)
	foreign[19] = 8
	for name, c := range map[string]struct {
		from    netip.Addr
		in      []byte
		up, err bool
	}{
		"reply":                        {e.ip, reply(e.id(), e.token[:]), true, false},
		"reply of another":             {router, reply(e.id(), e.token[:]), false, false},
		"reply to another":             {e.ip, reply(77, e.token[:]), false, false},
		"reply with other data":        {e.ip, reply(e.id(), []byte("x")), false, false},
		"our own request":              {e.ip, req, false, false},
		"host unreachable":             {router, unreachable(1, quote), false, false},
		"host unreachable, says we":    {ownIP, unreachable(1, quote), false, true},
		"network unreachable":          {router, unreachable(0, quote), false, true},
		"prohibited":                   {router, unreachable(13, quote), false, true},
		"prohibited, but not us":       {router, unreachable(13, foreign), false, false},
		"prohibited, quote cut off":    {router, unreachable(13, quote[:22]), false, false},
		"time exceeded":                {router, message(icmp.Message{Type: ipv4.ICMPTypeTimeExceeded, Body: &icmp.TimeExceeded{Data: quote}}), false, true},
		"rubbish":                      {e.ip, []byte{1}, false, false},
		"quote with a long IP header":  {router, unreachable(13, append([]byte{0x4f}, quote[1:]...)), false, false},
		"quote with a short IP header": {router, unreachable(13, append([]byte{0x41}, quote[1:]...)), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			up, err := e.heard(c.from, c.in)
			if up != c.up || (err != nil) != c.err {
				t.Errorf("%v, %v", up, err)
			}
		})
	}
}

func FuzzEcho(f *testing.F) {
	e := echo{ip: netip.MustParseAddr("192.0.2.9"), own: ownIP, token: [16]byte{1, 2, 3}}
	b, err := e.request(1)
	must(f, err)
	f.Add(b)
	f.Add(append([]byte{3, 1, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 44, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9}, b...))
	f.Add([]byte{11, 0, 0, 0, 0, 0, 0, 0, 0x4f})
	f.Fuzz(func(t *testing.T, b []byte) {
		if up, err := e.heard(e.ip, b); up && err != nil {
			t.Fatal("up, and an error")
		}
	})
}
