package dhcpserver

import (
	"hash/fnv"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// client is the MAC that a letter stands for. The first choice among the three
// addresses is 10.0.0.10 for a, .11 for b, .12 for c, .10 for d and so on.
func client(letter string) device.MAC {
	for i := range 256 {
		m := device.MAC{2, 0, 0, 0, byte(i), letter[0]}
		h := fnv.New32a()
		h.Write(m[:])
		if h.Sum32()%3 == uint32(letter[0]-'a')%3 {
			return m
		}
	}
	panic("no MAC")
}

// script runs lines such as "discover a want 10.0.0.11 -> offer 10.0.0.11". An
// address that is asked for on the link is free, unless "used" names it.
type script struct {
	t    *testing.T
	dir  *fakeDirectory
	b    *book
	now  time.Time
	used map[netip.Addr]bool
	// disk has what was to be saved.
	disk map[netip.Addr]Lease
}

func newScript(t *testing.T) *script {
	d := &fakeDirectory{map[device.MAC]netip.Addr{}, map[device.MAC]bool{}, map[netip.Addr]device.MAC{}}
	return &script{t, d, newBook(testPool, d, nil), time.Unix(1e9, 0), map[netip.Addr]bool{}, map[netip.Addr]Lease{}}
}

func (s *script) run(lines string) {
	s.t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		do, want, _ := strings.Cut(strings.TrimSpace(line), " -> ")
		if got := s.step(strings.Fields(do)); got != want {
			s.t.Fatalf("line %d: %s -> %s", i+1, strings.TrimSpace(line), got)
		}
		s.invariants()
	}
}

func (s *script) step(f []string) string {
	s.t.Helper()
	at := func(i int) netip.Addr { return netip.MustParseAddr("10.0." + f[i]) }
	switch f[0] {
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return ""
	case "reserve":
		s.dir.reserved[client(f[1])] = at(2)
		return ""
	case "list":
		s.dir.listed[client(f[1])] = true
		return ""
	case "hold":
		s.dir.holder[at(2)] = client(f[1])
		return ""
	case "use":
		s.used[at(1)] = true
		return ""
	case "unuse":
		delete(s.used, at(1))
		return ""
	case "restart":
		var leases []Lease
		for _, l := range s.disk {
			leases = append(leases, l)
		}
		s.b = newBook(testPool, s.dir, leases)
		return ""
	}
	a := &ask{Header: dhcplink.Header{MAC: client(f[1])}}
	a.Type = map[string]dhcpv4.MessageType{
		"discover": dhcpv4.MessageTypeDiscover, "request": dhcpv4.MessageTypeRequest, "release": dhcpv4.MessageTypeRelease,
		"decline": dhcpv4.MessageTypeDecline, "inform": dhcpv4.MessageTypeInform,
	}[f[0]]
	for i := 2; i+1 < len(f); i += 2 {
		switch f[i] {
		case "want":
			a.wanted = at(i + 1)
		case "of":
			a.server = at(i + 1)
		case "has":
			a.CIAddr = at(i + 1)
		case "as":
			a.firmware.Header = a.Header
			a.firmware.Kind = map[string]pidhcp.Kind{"rom": pidhcp.Pi3ROM, "bootcode": pidhcp.Bootcode, "eeprom": pidhcp.EEPROM}[f[i+1]]
		}
	}
	a.listed, a.reserved = s.dir.Board(a.MAC)
	v := s.b.decide(a, testSubnet, s.now)
	for {
		if v.save != nil {
			s.disk[v.save.Address] = *v.save
		}
		if !v.probe.IsValid() {
			break
		}
		v = s.b.probed(a, v.probe, s.used[v.probe], testSubnet, s.now)
	}
	if v.answer == 0 {
		if v.why == noAddress {
			return "full"
		}
		return "silence"
	}
	out := strings.ToLower(v.answer.String())
	if v.address.IsValid() {
		out += " " + strings.TrimPrefix(v.address.String(), "10.0.")
	}
	if v.boot.Kind != 0 {
		out += " boot"
	}
	return out
}

// invariants: an address is one client's, and a client has one.
func (s *script) invariants() {
	s.t.Helper()
	for addr, l := range s.b.byAddr {
		if l.Address != addr || !l.MAC.IsZero() && s.b.byMAC[l.MAC] != l || !testSubnet.usable(addr) {
			s.t.Fatalf("%v: %+v", addr, l)
		}
	}
	for mac, l := range s.b.byMAC {
		if l.MAC != mac || s.b.byAddr[l.Address] != l {
			s.t.Fatalf("%v: %+v", mac, l)
		}
	}
}
