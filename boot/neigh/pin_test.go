package neigh

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"rubus/boot/nettest"
	"rubus/config/device"
)

// A pinned address is not asked for, and is again afterwards.
func TestPin(t *testing.T) {
	lan(t)
	ns := port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	// A kernel that forgets after half a second to one and a half, and asks.
	sysctl(t, "net/ipv4/neigh/br0/base_reachable_time_ms", "1000")
	sysctl(t, "net/ipv4/neigh/br0/delay_first_probe_time", "0")
	opt := quick()
	opt.Refresh = 20 * time.Millisecond
	tab := New(opt)
	defer tab.Close()
	var asked *atomic.Int32
	nettest.Within(t, ns, func() { asked = talker(t, "eth0") })

	must(t, tab.Pin(piIP, piMAC, 2500*time.Millisecond))
	state := func() State {
		_, s, err := tab.Lookup(t.Context(), piIP)
		must(t, err)
		return s
	}
	use := func() { useAddress(t) }
	end := time.Now().Add(2 * time.Second)
	eventually(t, "two seconds", func() bool {
		use()
		if s := state(); s != Reachable {
			t.Fatalf("the pinned entry is %v", s)
		}
		return time.Now().After(end)
	})
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times while pinned", n)
	}
	eventually(t, "asked again after the pin", func() bool { use(); return asked.Load() > 0 })
	if n := pinned(tab); n != 0 {
		t.Errorf("%d pins are left", n)
	}
}

func pinned(tab *Table) int {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return len(tab.pins)
}

// useAddress sends a datagram, as TFTP would.
func useAddress(t *testing.T) {
	t.Helper()
	c, err := socket.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0, "udp", nil)
	must(t, err)
	defer c.Close()
	_ = c.Sendto(t.Context(), []byte{0}, 0, &unix.SockaddrInet4{Port: 9, Addr: piIP.As4()})
}

func TestPinGivesWay(t *testing.T) {
	lan(t)
	port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	opt := quick()
	opt.Refresh = 10 * time.Millisecond
	tab := New(opt)
	defer tab.Close()
	must(t, tab.Pin(piIP, piMAC, time.Minute))
	r, err := routeTo(piIP)
	must(t, err)
	must(t, r.set(otherMAC, unix.NUD_REACHABLE))
	// Who looked before that, and confirms the pin only now, changes nothing.
	must(t, r.keep(piMAC, unix.NUD_REACHABLE))
	eventually(t, "the pin is dropped", func() bool { return pinned(tab) == 0 })
	if mac, _, _ := tab.Lookup(t.Context(), piIP); mac != otherMAC {
		t.Errorf("the new owner's entry is %v", mac)
	}
}

func TestPinBounds(t *testing.T) {
	lan(t)
	tab := New(quick())
	defer tab.Close()
	for i := range maxPins {
		must(t, tab.Pin(netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)}), piMAC, time.Minute))
	}
	must(t, tab.Pin(ip("10.0.0.100"), otherMAC, time.Minute)) // replaces one
	for name, c := range map[string]struct {
		ip  string
		mac device.MAC
		d   time.Duration
	}{
		"one more":      {"10.0.0.99", piMAC, time.Minute},
		"for an hour":   {"10.0.0.100", piMAC, time.Hour},
		"for no time":   {"10.0.0.100", piMAC, 0},
		"no MAC":        {"10.0.0.100", device.MAC{}, time.Minute},
		"off the link":  {"127.0.0.1", piMAC, time.Minute},
		"no IPv4":       {"fe80::1", piMAC, time.Minute},
		"without route": {"192.0.2.1", piMAC, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tab.Pin(ip(c.ip), c.mac, c.d); err == nil {
				t.Error("no error")
			}
		})
	}
	tab.Close()
	for i := range maxPins {
		if mac, s, err := tab.Lookup(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)})); s != Stale || err != nil {
			t.Fatalf("after Close: %v, %v, %v", mac, s, err)
		}
	}
}
