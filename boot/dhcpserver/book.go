package dhcpserver

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"rubus/boot/dhcplink"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// How long an address is kept.
const (
	// offerHold is for a client that was offered it and has not asked for it.
	offerHold = time.Minute
	// firmwareHold is for a Pi before the 4, whose firmware uses what it is
	// offered and never asks for it; its system asks within that time.
	firmwareHold = 10 * time.Minute
	// conflictHold is for whoever uses it without a lease.
	conflictHold = 10 * time.Minute
)

// Directory knows boards.
type Directory interface {
	// Board says whether devices.yaml names the board with a MAC, and the
	// address that it is to have; invalid: any.
	Board(mac device.MAC) (listed bool, reserved netip.Addr)
	// Holder says whether an address is kept for a board: it is reserved, or a
	// board has it that is up or may be. The MAC is zero while that is not known.
	Holder(addr netip.Addr) (mac device.MAC, held bool)
}

// ask is a client's message as the book sees it.
type ask struct {
	dhcplink.Header
	// wanted is option 50, server option 54; invalid: none.
	wanted, server netip.Addr
	host           string
	// firmware is set when a Pi's firmware asks.
	firmware pidhcp.Request
	listed   bool
	reserved netip.Addr
	// tries counts the addresses that turned out to be another's.
	tries int
}

// isFirmware says that a Pi's firmware asks.
func (a *ask) isFirmware() bool { return a.firmware.Kind != 0 }

// asksNever says that the client uses what it is offered without a REQUEST.
func (a *ask) asksNever() bool {
	return a.firmware.Kind == pidhcp.Pi3ROM || a.firmware.Kind == pidhcp.Bootcode
}

// subnet is the network that the pool is part of, as one of our links has it.
type subnet struct {
	own    netip.Addr // our address there
	prefix netip.Prefix
	ours   []netip.Addr // all that we have on that link
}

// usable says that an address of the subnet can be a client's.
func (s subnet) usable(a netip.Addr) bool {
	if !s.prefix.Contains(a) || a == s.own || slices.Contains(s.ours, a) || !dhcplink.IsUnicast(a) {
		return false
	}
	hosts := ^uint32(0) >> s.prefix.Bits()
	n := number(a) & hosts
	return s.prefix.Bits() >= 31 || n != 0 && n != hosts
}

// book has the leases. It is pure: time comes in, and what must be on disk
// before a client is answered goes out. It is for one goroutine at a time.
type book struct {
	pool   Pool
	dir    Directory
	byAddr map[netip.Addr]*Lease
	byMAC  map[device.MAC]*Lease
}

func newBook(p Pool, dir Directory, leases []Lease) *book {
	b := &book{pool: p, dir: dir, byAddr: map[netip.Addr]*Lease{}, byMAC: map[device.MAC]*Lease{}}
	// Of two leases of one client the one that ends later is the newer.
	slices.SortFunc(leases, func(x, y Lease) int { return x.Until.Compare(y.Until) })
	for _, l := range leases {
		l.kept = l.State == Bound
		b.put(l)
	}
	return b
}

// put makes l the lease of its address and of its client.
func (b *book) put(l Lease) *Lease {
	b.drop(b.byAddr[l.Address])
	if !l.MAC.IsZero() {
		b.drop(b.byMAC[l.MAC])
		b.byMAC[l.MAC] = &l
	}
	b.byAddr[l.Address] = &l
	return &l
}

func (b *book) drop(l *Lease) {
	if l == nil {
		return
	}
	delete(b.byAddr, l.Address)
	if b.byMAC[l.MAC] == l {
		delete(b.byMAC, l.MAC)
	}
}

// choose is the address for a client that wants one; fresh says that it must be
// asked for on the link first. why says why there is none.
func (b *book) choose(a *ask, sub subnet, now time.Time) (addr netip.Addr, fresh bool, why string) {
	mine := b.byMAC[a.MAC]
	if r := a.reserved; r.IsValid() && sub.usable(r) {
		l := b.byAddr[r]
		switch {
		case l == nil || l.MAC == a.MAC || !l.live(now):
			return r, l == nil || l.MAC != a.MAC || !l.live(now), ""
		case l.State == Conflict:
			return netip.Addr{}, false, "somebody else uses the address that devices.yaml gives it"
		}
		// Another client has a lease of it: until that is over, another address.
	}
	free := func(x netip.Addr) bool {
		if !b.pool.has(x) || !sub.usable(x) || x == b.pool.Router || slices.Contains(b.pool.DNS, x) {
			return false
		}
		if l := b.byAddr[x]; l != nil && l.MAC != a.MAC && l.live(now) && (l.State != Offered || !a.listed || l.listed) {
			return false
		}
		mac, held := b.dir.Holder(x)
		return !held || mac == a.MAC
	}
	if mine != nil && free(mine.Address) {
		return mine.Address, !mine.live(now), ""
	}
	if free(a.wanted) {
		return a.wanted, true, ""
	}
	// A client's first choice follows from its MAC, so that it is the same when
	// the leases are lost. What was never given out goes first, then what ended
	// longest ago.
	h := fnv.New32a()
	h.Write(a.MAC[:])
	n := b.pool.size()
	var oldest *Lease
	var conflict netip.Addr
	for i := range n {
		x := b.pool.at((int(h.Sum32()%uint32(n)) + i) % n)
		l := b.byAddr[x]
		better := l == nil || oldest == nil || rank(l, now) < rank(oldest, now) || rank(l, now) == rank(oldest, now) && l.Until.Before(oldest.Until)
		if !better && l.State != Conflict {
			continue // whether it is free takes a look at all boards
		}
		if !free(x) {
			if l != nil && l.State == Conflict && !conflict.IsValid() {
				conflict = x
			}
			continue
		}
		if l == nil {
			return x, true, ""
		}
		if better {
			oldest = l
		}
	}
	switch {
	case oldest != nil:
		return oldest.Address, true, ""
	case a.listed && conflict.IsValid():
		// Somebody may have declined all that there is: a board looks again.
		return conflict, true, ""
	}
	return netip.Addr{}, false, noAddress
}

// noAddress is why a client gets nothing when all is given out.
const noAddress = "no address is free"

// rank puts leases that are over before offers that are still open.
func rank(l *Lease, now time.Time) int {
	if l.live(now) {
		return 1
	}
	return 0
}

// lease gives an address to a client for a while.
func (b *book) lease(a *ask, addr netip.Addr, s State, until time.Time) *Lease {
	l := Lease{Address: addr, MAC: a.MAC, State: s, Until: until, Host: a.host, firmware: a.firmware, listed: a.listed}
	if old := b.byMAC[a.MAC]; old != nil && old.Address == addr {
		l.kept = old.kept
		if l.Host == "" {
			l.Host = old.Host
		}
		if s == Offered && old.State == Bound && until.Before(old.Until) {
			l.State, l.Until = Bound, old.Until // an offer takes nothing away
		}
	}
	return b.put(l)
}
