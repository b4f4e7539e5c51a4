package dhcpserver

import (
	"encoding/json"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"
)

// FuzzHear: whatever is heard, an address is one client's and in the pool, and
// every answer can be read.
func FuzzHear(f *testing.F) {
	for _, name := range dhcptest.Names(f) {
		f.Add(dhcptest.Packet(f, name))
		f.Add(dhcptest.Edit(f, dhcptest.Packet(f, name), map[uint8][]byte{53: {3}, 50: {10, 0, 0, 10}, 54: {10, 0, 0, 1}}))
	}
	f.Add(message(f, client("a"), dhcpv4.MessageTypeDecline, requested("10.0.0.10")))
	dir := f.TempDir()
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		b := newBench(t, dir, func(s *Server) { s.Force = true })
		b.save = func(l Lease) error {
			text, err := json.Marshal(l)
			if err == nil {
				_, err = parseLease(l.Address, text)
			}
			if err != nil {
				t.Errorf("a lease that cannot be read again: %+v, %v", l, err)
			}
			return nil
		}
		for range 2 {
			for _, m := range b.say(payload) {
				if y := m.YourIPAddr; !y.IsUnspecified() && !testPool.has(netip.AddrFrom4([4]byte(y.To4()))) {
					t.Errorf("gave %v", y)
				}
			}
		}
		b.clock.Pass(time.Minute)
		for addr, l := range b.book.byAddr {
			if !testPool.has(addr) || !l.MAC.IsZero() && b.book.byMAC[l.MAC] != l {
				t.Errorf("%v: %+v", addr, l)
			}
		}
	})
}

func FuzzParseLease(f *testing.F) {
	f.Add([]byte(`{"address":"10.0.0.9","mac":"02:00:00:00:00:99","state":"bound","until":"2031-09-09T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		addr := netip.MustParseAddr("10.0.0.9")
		l, err := parseLease(addr, b)
		if err == nil && (l.Address != addr || l.MAC.IsZero() != (l.State == Conflict) || len(l.Host) > 63) {
			t.Errorf("%+v", l)
		}
	})
}
