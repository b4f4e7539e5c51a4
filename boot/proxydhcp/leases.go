package proxydhcp

import (
	"net/netip"

	"rubus/config/device"
)

// leaseBook remembers which addresses were offered to whom, the last few
// only: a board that asks again is answered from the subnet it will be in.
type leaseBook struct {
	entries [256]struct {
		mac  device.MAC
		addr netip.Addr
	}
	next int
}

// note replaces what is known of a MAC, or the oldest entry.
func (b *leaseBook) note(mac device.MAC, addr netip.Addr) {
	for i := range b.entries {
		if b.entries[i].mac == mac {
			b.entries[i].addr = addr
			return
		}
	}
	b.entries[b.next].mac, b.entries[b.next].addr = mac, addr
	b.next = (b.next + 1) % len(b.entries)
}

// address is the last address offered to a MAC; invalid: none known.
func (b *leaseBook) address(mac device.MAC) netip.Addr {
	for i := range b.entries {
		if b.entries[i].mac == mac {
			return b.entries[i].addr
		}
	}
	return netip.Addr{}
}
