package neigh

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"rubus/config/device"
)

// Bounds of Pin.
const (
	maxPins = 64
	maxPin  = 10 * time.Minute
)

// pin is an entry of the kernel's table that is kept confirmed.
type pin struct {
	route route
	mac   device.MAC
	until time.Time
	timer *time.Timer
}

// Pin keeps the kernel from asking for an address by ARP for d, ten minutes at
// most: the ROM of a Pi 3 does not answer while it loads a file. The entry
// is confirmed again and again, not made permanent, so that the kernel takes up
// its own ways should this process die. It ends early when the table gets
// another MAC for the address. A further Pin of an address replaces the former.
func (t *Table) Pin(ip netip.Addr, mac device.MAC, d time.Duration) error {
	if d <= 0 || d > maxPin {
		return fmt.Errorf("pinning %v for %v: want at most %v", ip, d, maxPin)
	}
	if mac.IsZero() {
		return fmt.Errorf("pinning %v: no MAC address", ip)
	}
	r, err := routeTo(ip)
	if err != nil {
		return fmt.Errorf("pinning %v: %w", ip, err)
	}
	if !r.onLink {
		return fmt.Errorf("pinning %v: %w", ip, ErrOffLink)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.pins[r.ip]
	if old == nil && len(t.pins) >= maxPins {
		return fmt.Errorf("pinning %v: %w", ip, errPins)
	}
	if err := r.set(mac, unix.NUD_REACHABLE); err != nil {
		return fmt.Errorf("pinning %v: %w", ip, err)
	}
	if old != nil {
		old.timer.Stop()
	}
	p := &pin{route: r, mac: mac, until: t.opt.Now().Add(d)}
	t.pins[r.ip] = p
	p.timer = time.AfterFunc(min(d, t.opt.Refresh), func() { t.refresh(p) })
	return nil
}

var errPins = errors.New("too many addresses are pinned")

// refresh confirms an entry, or lets go of it.
func (t *Table) refresh(p *pin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins[p.route.ip] != p {
		return
	}
	left := p.until.Sub(t.opt.Now())
	mac, state, err := p.route.neighbour()
	if err == nil && state >= Stale && mac != p.mac {
		t.log.Debug("a pinned address has a new owner", "address", p.route.ip, "mac", mac)
		left = 0
	}
	if err == nil && left > 0 {
		err = p.route.keep(p.mac, unix.NUD_REACHABLE)
	}
	if err != nil {
		t.log.Debug("cannot keep an address pinned", "address", p.route.ip, "error", err)
		left = 0
	}
	if left <= 0 {
		t.unpin(p)
		return
	}
	p.timer.Reset(min(left, t.opt.Refresh))
}

// unpin has the kernel ask again before the entry is next used. t.mu is held.
func (t *Table) unpin(p *pin) {
	p.timer.Stop()
	delete(t.pins, p.route.ip)
	if mac, state, err := p.route.neighbour(); err == nil && state == Reachable && mac == p.mac {
		if err := p.route.keep(p.mac, unix.NUD_STALE); err != nil {
			t.log.Debug("cannot let go of a pinned address", "address", p.route.ip, "error", err)
		}
	}
}

// Close lets go of everything pinned.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pins {
		t.unpin(p)
	}
}
