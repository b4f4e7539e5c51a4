package dhcpserver

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/config/device"
)

var (
	testSubnet = subnet{own: netip.MustParseAddr("10.0.0.1"), prefix: netip.MustParsePrefix("10.0.0.0/24")}
	testPool   = Pool{First: netip.MustParseAddr("10.0.0.10"), Last: netip.MustParseAddr("10.0.0.12"), Lease: time.Hour}
)

// fakeDirectory has what it is told.
type fakeDirectory struct {
	reserved map[device.MAC]netip.Addr
	listed   map[device.MAC]bool
	holder   map[netip.Addr]device.MAC
}

func (d *fakeDirectory) Board(mac device.MAC) (bool, netip.Addr) {
	return d.listed[mac] || d.reserved[mac].IsValid(), d.reserved[mac]
}

func (d *fakeDirectory) Holder(a netip.Addr) (device.MAC, bool) {
	for mac, r := range d.reserved {
		if r == a {
			return mac, true
		}
	}
	mac, ok := d.holder[a]
	return mac, ok
}

func TestConversations(t *testing.T) {
	for name, lines := range map[string]string{
		"four messages": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10`,
		"another address than was offered": `
			discover a -> offer 0.10
			request a want 0.11 of 0.1 -> nak
			request b want 0.10 of 0.1 -> nak`,
		"another server was chosen": `
			discover a -> offer 0.10
			request a want 0.77 of 0.9 -> silence
			discover b want 0.10 -> offer 0.10`,
		"renewing and rebinding": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			wait 30m
			request a has 0.10 -> ack 0.10
			wait 59m
			request a has 0.10 -> ack 0.10
			wait 61m
			request a has 0.10 -> ack 0.10`,
		"renewing what another has": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			request b has 0.10 -> nak`,
		"renewing what nobody knows of": `
			request a has 0.10 -> silence`,
		"renewing in another network": `
			request a has 7.10 -> nak`,
		"after a reboot": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			request a want 0.10 -> ack 0.10
			request a want 0.12 -> nak
			request b want 0.10 -> nak
			request b want 9.9 -> nak
			request b want 0.255 -> nak
			request b want 0.1 -> nak
			request b want 0.12 -> silence`,
		"release and come back": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			release b has 0.10 -> silence
			release a has 0.10 -> silence
			discover b want 0.10 -> offer 0.10
			discover a -> offer 0.11`,
		"the same address after a release": `
			discover a want 0.12 -> offer 0.12
			request a want 0.12 of 0.1 -> ack 0.12
			release a has 0.12 -> silence
			discover a -> offer 0.12`,
		"decline": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			decline b want 0.10 -> silence
			decline a want 0.10 of 0.1 -> silence
			discover a -> offer 0.11
			discover b want 0.10 -> offer 0.12
			restart
			discover c want 0.10 -> offer 0.12
			wait 11m
			discover d want 0.10 -> offer 0.10`,
		"declined in a board's name, which renews": `
			list a
			hold a 0.10
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			decline a want 0.10 of 0.1 -> silence
			request a want 0.10 -> nak
			request a has 0.10 -> ack 0.10
			restart
			request a has 0.10 -> ack 0.10
			discover b want 0.10 -> offer 0.11`,
		"declined in the name of one that is no board": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			decline a want 0.10 of 0.1 -> silence
			request a has 0.10 -> nak`,
		"all is declined": `
			discover a -> offer 0.10
			decline a want 0.10 of 0.1 -> silence
			discover a -> offer 0.11
			decline a want 0.11 of 0.1 -> silence
			discover a -> offer 0.12
			decline a want 0.12 of 0.1 -> silence
			discover b -> full
			list c
			discover c -> offer 0.12
			wait 11m
			discover b -> offer 0.12`,
		"inform": `
			inform a has 0.200 -> ack
			inform a has 7.1 -> silence
			inform a -> silence`,
		"somebody uses the address": `
			use 0.10
			use 0.11
			discover a want 0.10 -> offer 0.12
			restart
			unuse 0.10
			discover b want 0.10 -> offer 0.12
			discover c want 0.10 -> full
			wait 11m
			discover c want 0.10 -> offer 0.10`,
		"all are used": `
			use 0.10
			use 0.11
			use 0.12
			discover a -> full
			list b
			discover b -> full
			unuse 0.11
			discover c -> full
			discover b -> offer 0.11`,
		"full, and an offer ends": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			discover b -> offer 0.11
			discover c -> offer 0.12
			discover d -> full
			wait 61s
			discover d -> offer 0.11
			request c want 0.12 of 0.1 -> ack 0.12
			request b want 0.11 of 0.1 -> nak`,
		"a listed board takes what was only offered": `
			discover a -> offer 0.10
			discover b -> offer 0.11
			discover c -> offer 0.12
			list x
			discover x -> offer 0.12
			request x want 0.12 of 0.1 -> ack 0.12
			request c want 0.12 of 0.1 -> nak
			discover y -> full`,
		"the longest over goes first": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			wait 1m
			discover b -> offer 0.11
			request b want 0.11 of 0.1 -> ack 0.11
			wait 1m
			discover c -> offer 0.12
			request c want 0.12 of 0.1 -> ack 0.12
			wait 2h
			discover d -> offer 0.10`,
		"a reservation": `
			reserve a 0.200
			discover a -> offer 0.200
			request a want 0.200 of 0.1 -> ack 0.200
			reserve b 0.10
			discover c want 0.10 -> offer 0.12
			discover d -> offer 0.11
			discover e -> full
			discover b -> offer 0.10`,
		"a reservation that is used by another": `
			reserve a 0.200
			use 0.200
			discover a -> silence
			unuse 0.200
			wait 11m
			discover a -> offer 0.200`,
		"a reservation that another still has": `
			discover b want 0.11 -> offer 0.11
			request b want 0.11 of 0.1 -> ack 0.11
			reserve a 0.11
			discover a -> offer 0.10
			request b has 0.11 -> ack 0.11
			wait 2h
			request b has 0.11 -> nak
			discover a -> offer 0.11`,
		"a board keeps what it stands on": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			reserve a 0.200
			request a has 0.10 -> ack 0.10
			discover a -> offer 0.200`,
		"a reservation of no host": `
			reserve a 0.255
			discover a -> offer 0.10
			reserve b 9.9
			discover b -> offer 0.11`,
		"an address that a board has": `
			hold x 0.10
			hold y 0.11
			discover a want 0.10 -> offer 0.12
			request x has 0.10 -> ack 0.10
			request a has 0.11 -> nak`,
		"a Pi 4": `
			discover a as eeprom -> offer 0.10 boot
			request a want 0.10 of 0.1 as eeprom -> ack 0.10 boot
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10`,
		"a Pi 4 whose REQUEST says nothing": `
			discover a as eeprom -> offer 0.10 boot
			request a want 0.10 of 0.1 -> ack 0.10 boot`,
		"a Pi 3 never asks": `
			discover a as rom -> offer 0.10 boot
			wait 5m
			restart
			discover a as bootcode -> offer 0.10 boot
			wait 5m
			discover b want 0.10 -> offer 0.11
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			wait 30m
			discover a as rom -> offer 0.10 boot
			wait 20m
			restart
			discover c want 0.10 -> offer 0.12`,
		"a Pi 3's address outlives a restart": `
			discover a want 0.12 as rom -> offer 0.12 boot
			restart
			discover c -> offer 0.10`,
		"a Pi 3 that is gone": `
			discover a as rom -> offer 0.10 boot
			wait 11m
			discover b want 0.10 -> offer 0.10`,
		"leases outlive a restart, offers do not": `
			discover a -> offer 0.10
			request a want 0.10 of 0.1 -> ack 0.10
			discover b -> offer 0.11
			restart
			request a has 0.10 -> ack 0.10
			request b want 0.11 of 0.1 -> nak
			discover b -> offer 0.11`,
		"nonsense": `
			request a -> silence
			release a -> silence
			decline a -> silence
			request a of 0.1 -> nak`,
	} {
		t.Run(name, func(t *testing.T) { newScript(t).run(lines) })
	}
}

// While an address is asked for on the link, it is nobody else's, and its client
// waits.
func TestProbing(t *testing.T) {
	s := newScript(t)
	a := &ask{Header: dhcplink.Header{MAC: client("a"), Type: dhcpv4.MessageTypeDiscover}}
	v := s.b.decide(a, testSubnet, s.now)
	if !v.probe.IsValid() || v.answer != 0 {
		t.Fatalf("%+v", v)
	}
	if again := s.b.decide(a, testSubnet, s.now); again.probe.IsValid() || again.answer != 0 {
		t.Errorf("asked for twice: %+v", again)
	}
	early := &ask{Header: dhcplink.Header{MAC: client("a"), Type: dhcpv4.MessageTypeRequest}, wanted: v.probe, server: testSubnet.own}
	if got := s.b.decide(early, testSubnet, s.now); got.answer != dhcpv4.MessageTypeNak {
		t.Errorf("acknowledged before it was known to be free: %+v", got)
	}
	b := &ask{Header: dhcplink.Header{MAC: client("b"), Type: dhcpv4.MessageTypeDiscover}, wanted: v.probe}
	if other := s.b.decide(b, testSubnet, s.now); other.probe == v.probe {
		t.Errorf("two clients are to get %v", v.probe)
	}
	if got := s.b.probed(a, v.probe, false, testSubnet, s.now); got.answer != dhcpv4.MessageTypeOffer || got.address != v.probe {
		t.Errorf("%+v", got)
	}
	// The answer comes when the address is another's.
	s.b.put(Lease{Address: v.probe, MAC: client("z"), State: Bound, Until: s.now.Add(time.Hour)})
	if got := s.b.probed(a, v.probe, false, testSubnet, s.now); got.answer != 0 {
		t.Errorf("%+v", got)
	}
}

// However many clients ask, there are no more leases than addresses, and nobody
// who has one loses it.
func TestForgedClients(t *testing.T) {
	s := newScript(t)
	s.run(`discover a -> offer 0.10
		request a want 0.10 of 0.1 -> ack 0.10`)
	for i := range 5000 {
		q := &ask{Header: dhcplink.Header{MAC: device.MAC{6, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}, Type: dhcpv4.MessageTypeDiscover}}
		v := s.b.decide(q, testSubnet, s.now)
		if v.probe.IsValid() {
			v = s.b.probed(q, v.probe, false, testSubnet, s.now)
		}
		if v.save != nil {
			t.Fatalf("a DISCOVER goes to disk: %+v", v)
		}
	}
	if len(s.b.byAddr) > 3 || len(s.b.byMAC) > 3 {
		t.Errorf("%d addresses, %d clients", len(s.b.byAddr), len(s.b.byMAC))
	}
	s.run(`request a has 0.10 -> ack 0.10
		list x
		discover x -> offer 0.12`)
}

// asked counts how often a directory is asked who holds an address.
type asked struct {
	fakeDirectory
	n int
}

func (d *asked) Holder(a netip.Addr) (device.MAC, bool) {
	d.n++
	return d.fakeDirectory.Holder(a)
}

// Of a range full of old leases few addresses are looked up among all boards: the
// one that ended longest ago is given.
func TestOldLeases(t *testing.T) {
	pool, now := testPool, time.Unix(1e9, 0)
	pool.Last = netip.MustParseAddr("10.0.0.250")
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	var old []Lease
	for i := range pool.size() {
		ended := now.Add(-time.Duration(i*7919%241+1) * time.Minute)
		old = append(old, Lease{Address: pool.at(i), MAC: device.MAC{4, 0, 0, 0, 0, byte(i)}, State: Bound, Until: ended})
	}
	var dir asked
	b := newBook(pool, &dir, old)
	v := b.decide(&ask{Header: dhcplink.Header{MAC: client("a"), Type: dhcpv4.MessageTypeDiscover}}, subnet{own: testSubnet.own, prefix: prefix}, now)
	first := slices.MinFunc(old, func(x, y Lease) int { return x.Until.Compare(y.Until) })
	if v.probe != first.Address || dir.n > 40 {
		t.Errorf("%v after %d questions, want %v", v.probe, dir.n, first.Address)
	}
}

// A client's address follows from its MAC, as long as it is free.
func TestSameWithoutLeases(t *testing.T) {
	pool := testPool
	pool.Last = netip.MustParseAddr("10.0.0.200")
	got := map[string]netip.Addr{}
	for _, order := range []string{"abcdef", "fedcba"} {
		b := newBook(pool, &fakeDirectory{}, nil)
		for i := range len(order) {
			mac := order[i : i+1]
			v := b.decide(&ask{Header: dhcplink.Header{MAC: client(mac), Type: dhcpv4.MessageTypeDiscover}}, testSubnet, time.Unix(1e9, 0))
			if old, ok := got[mac]; ok && old != v.probe {
				t.Errorf("%s: %v, then %v", mac, old, v.probe)
			}
			got[mac] = v.probe
		}
	}
	if s := fmt.Sprint(got); len(got) != 6 {
		t.Error(s)
	}
}
