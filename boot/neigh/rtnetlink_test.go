package neigh

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/nettest"
)

// TestAtOnce: hundreds of boards are looked up at a time, and then wait for the link and the
// disk, so what one takes of a stack is little.
func TestAtOnce(t *testing.T) {
	lan(t)
	port(t, "br0", "p1", piMAC.String(), "10.0.0.50/24")
	br0 := nettest.Link(t, "br0").Attrs().Index
	tab := New(quick())
	t.Cleanup(tab.Close)
	for name, look := range map[string]func(n byte) error{
		"a way":       func(n byte) error { _, err := tab.route(netip.AddrFrom4([4]byte{10, 0, 0, n})); return err },
		"an owner":    func(byte) error { _, err := tab.Resolve(t.Context(), piIP); return err },
		"a pin":       func(byte) error { return tab.Pin(piIP, piMAC, time.Minute) },
		"all of them": func(byte) error { _, err := tab.Addresses(piMAC); return err },
		"a link":      func(byte) error { _, err := linkOf(br0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			const boards, most = 100, 48 << 10
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var done, all sync.WaitGroup
			hold := make(chan struct{})
			for n := range byte(boards) {
				done.Add(1)
				all.Go(func() {
					if err := look(100 + n); err != nil {
						t.Error(err)
					}
					done.Done()
					<-hold
				})
			}
			done.Wait()
			runtime.ReadMemStats(&after)
			close(hold)
			all.Wait()
			took := (int64(after.StackInuse) - int64(before.StackInuse)) / boards
			if took > most {
				t.Errorf("%d bytes of stack for a board, want %d at most", took, most)
			}
		})
	}
}

// TestLargeTable: the kernel gives a table of any size, in as many parts as that takes.
func TestLargeTable(t *testing.T) {
	lan(t)
	const many = 2000
	r := route{index: nettest.Link(t, "br0").Attrs().Index}
	for n := range many {
		r.ip = netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
		must(t, r.set(piMAC, unix.NUD_PERMANENT)) // others are bounded for all namespaces
	}
	all, err := New(quick()).Addresses(piMAC)
	if err != nil || len(all) != many {
		t.Errorf("%d addresses, want %d: %v", len(all), many, err)
	}
	if here, err := addressesOf(r.index, piMAC); err != nil || len(here) != many {
		t.Errorf("%d addresses on the link, want %d: %v", len(here), many, err)
	}
	if elsewhere, err := addressesOf(r.index+1, piMAC); err != nil || len(elsewhere) != 0 {
		t.Errorf("%d addresses on another link, %v", len(elsewhere), err)
	}
}

// TestRefused: what the kernel refuses says why.
func TestRefused(t *testing.T) {
	lan(t)
	if _, err := linkOf(1 << 20); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is not there: %v", err)
	}
	r := route{index: 1 << 20, ip: piIP}
	if err := r.set(piMAC, unix.NUD_REACHABLE); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an entry on it: %v", err)
	}
}
