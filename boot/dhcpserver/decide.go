package dhcpserver

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/pidhcp"
)

// verdict is what to do about a message.
type verdict struct {
	// answer is OFFER, ACK or NAK; 0: nothing is sent.
	answer dhcpv4.MessageType
	// address is what is given; invalid: none (a NAK, or the ACK of an INFORM).
	address netip.Addr
	// probe is an address to be asked for on the link before anything is sent;
	// what was found goes to probed.
	probe netip.Addr
	// save is what must be on disk before the answer is sent; nil: nothing.
	save *Lease
	// boot is the firmware's message when the answer is for one.
	boot pidhcp.Request
	// why says in words why there is no OFFER, or a NAK.
	why string
}

// decide deals with a message, as RFC 2131, section 4.3, says.
func (b *book) decide(a *ask, sub subnet, now time.Time) verdict {
	switch a.Type {
	case dhcpv4.MessageTypeDiscover:
		return b.discover(a, sub, now)
	case dhcpv4.MessageTypeRequest:
		return b.request(a, sub, now)
	case dhcpv4.MessageTypeDecline:
		return b.decline(a, sub, now)
	case dhcpv4.MessageTypeRelease:
		return b.release(a, now)
	case dhcpv4.MessageTypeInform:
		if sub.prefix.Contains(a.CIAddr) {
			return verdict{answer: dhcpv4.MessageTypeAck}
		}
	}
	return verdict{}
}

// discover offers an address, or has it asked for first.
func (b *book) discover(a *ask, sub subnet, now time.Time) verdict {
	if mine := b.byMAC[a.MAC]; mine != nil && mine.probing && mine.live(now) {
		return verdict{why: "its address is being asked for"}
	}
	addr, fresh, why := b.choose(a, sub, now)
	if !addr.IsValid() {
		return verdict{why: why}
	}
	if fresh {
		b.lease(a, addr, Offered, now.Add(offerHold)).probing = true
		return verdict{probe: addr}
	}
	return b.offer(a, addr, now)
}

// maxTries bounds the addresses that are asked for on behalf of one DISCOVER.
const maxTries = 4

// probed goes on with a DISCOVER whose address was asked for on the link. used
// says that another than the client answered.
func (b *book) probed(a *ask, addr netip.Addr, used bool, sub subnet, now time.Time) verdict {
	l := b.byAddr[addr]
	if l == nil || l.MAC != a.MAC {
		return verdict{} // given to somebody else meanwhile
	}
	l.probing = false
	if !used {
		return b.offer(a, addr, now)
	}
	conflict := b.put(Lease{Address: addr, State: Conflict, Until: now.Add(conflictHold)})
	v := verdict{why: noAddress}
	if a.tries++; a.tries < maxTries {
		v = b.discover(a, sub, now)
	}
	// In a conflict nobody else gets the address: also after a restart.
	v.save = conflict
	return v
}

func (b *book) offer(a *ask, addr netip.Addr, now time.Time) verdict {
	v := verdict{answer: dhcpv4.MessageTypeOffer, address: addr, boot: a.firmware}
	if !a.asksNever() {
		b.lease(a, addr, Offered, now.Add(offerHold))
		return v
	}
	until := now.Add(min(firmwareHold, b.pool.Lease))
	if old := b.byMAC[a.MAC]; old != nil && old.Address == addr && old.State == Bound && old.Until.After(until) {
		until = old.Until
	}
	v.save = b.lease(a, addr, Bound, until)
	return v
}

func (b *book) ack(a *ask, addr netip.Addr, now time.Time) verdict {
	boot := a.firmware
	if l := b.byMAC[a.MAC]; l != nil && boot.Kind == 0 && l.firmware.Kind == pidhcp.EEPROM && l.firmware.XID == a.XID {
		// A REQUEST need say neither option 60 nor 97: it goes on with what the
		// firmware's DISCOVER began.
		boot = l.firmware
	}
	l := b.lease(a, addr, Bound, now.Add(b.pool.Lease))
	l.firmware = boot
	return verdict{answer: dhcpv4.MessageTypeAck, address: addr, save: l, boot: boot}
}

// request tells the states of a client by what it sends (RFC 2131, table 4).
func (b *book) request(a *ask, sub subnet, now time.Time) verdict {
	mine := b.byMAC[a.MAC]
	nak := func(why string) verdict { return verdict{answer: dhcpv4.MessageTypeNak, why: why} }
	addr := a.wanted
	switch {
	case a.server.IsValid() && a.server != sub.own:
		// It took another server's offer.
		if mine != nil && mine.State == Offered {
			b.drop(mine)
		}
		return verdict{}
	case a.server.IsValid(): // SELECTING
		if !addr.IsValid() {
			addr = a.CIAddr
		}
		if mine == nil || mine.Address != addr || mine.probing {
			return nak("it was not offered that address")
		}
		return b.ack(a, addr, now)
	case a.CIAddr.IsValid(): // RENEWING, REBINDING
		addr = a.CIAddr
	case !addr.IsValid():
		return verdict{}
	}
	// INIT-REBOOT too: the client believes that it has this address.
	other := b.byAddr[addr]
	switch {
	case mine != nil && mine.Address == addr && !mine.probing:
		// What a client uses it may keep, whatever devices.yaml says meanwhile: a
		// board stands on it.
		if mac, held := b.dir.Holder(addr); held && mac != a.MAC && !mine.live(now) {
			return nak("its lease is over and the address is another board's")
		}
		return b.ack(a, addr, now)
	case !sub.usable(addr):
		return nak("no client has that address here")
	case mine != nil && mine.live(now) && mine.State == Bound:
		return nak("it has another address")
	}
	mac, held := b.dir.Holder(addr)
	if other != nil && other.live(now) {
		// A board that is at work on the address it renews keeps it, whoever said in its
		// name that somebody else uses it.
		if !held || mac != a.MAC || other.State != Conflict || !a.CIAddr.IsValid() {
			return nak("another client has that address")
		}
	}
	if held && mac != a.MAC {
		return nak("the address is another board's")
	} else if held {
		// The board's root is exported to it: only the lease was lost.
		return b.ack(a, addr, now)
	}
	// No record of this client: another server may have one (RFC 2131, 4.3.2).
	return verdict{}
}

// decline keeps an address out of use that a client found used by another.
func (b *book) decline(a *ask, sub subnet, now time.Time) verdict {
	mine := b.byMAC[a.MAC]
	if mine == nil || mine.Address != a.wanted || a.server.IsValid() && a.server != sub.own {
		return verdict{}
	}
	return verdict{save: b.put(Lease{Address: a.wanted, State: Conflict, Until: now.Add(conflictHold)}), why: "the client found its address in use"}
}

// release ends a lease. The client gets the same address again if it can.
func (b *book) release(a *ask, now time.Time) verdict {
	mine := b.byMAC[a.MAC]
	if mine == nil || mine.Address != a.CIAddr {
		return verdict{}
	}
	mine.State, mine.Until = Released, now
	return verdict{save: mine}
}
