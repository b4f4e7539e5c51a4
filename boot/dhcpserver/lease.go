package dhcpserver

import (
	"net/netip"
	"time"

	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// State is what a lease's address is to its client.
type State string

// The states.
const (
	// Offered: the client has not taken it yet. This state is not on disk.
	Offered State = "offered"
	// Bound: the client has it until it expires.
	Bound State = "bound"
	// Released: the client gave it back; it gets it again if it can.
	Released State = "released"
	// Conflict: somebody who has no lease uses it.
	Conflict State = "conflict"
)

// Lease is one address and whom it was given to.
type Lease struct {
	Address netip.Addr `json:"address"`
	// MAC is the client; zero in a Conflict. A board has one address, whichever
	// of its programs asks: client identifiers differ between firmware, kernel
	// and operating system, and a root is exported to one address.
	MAC   device.MAC `json:"mac,omitzero"`
	State State      `json:"state"`
	// Until is when it ends.
	Until time.Time `json:"until"`
	// Host is the name that the client gave itself, "" if none.
	Host string `json:"host,omitempty"`

	// firmware is the Pi's DISCOVER that this lease answered; its REQUEST is
	// answered with the same options.
	firmware pidhcp.Request
	// listed says that devices.yaml names the client.
	listed bool
	// probing says that the address is being asked for on the link.
	probing bool
	// kept says that a file on disk has the address as this client's.
	kept bool
}

// Over says that the address is free again at a time.
func (l *Lease) Over(now time.Time) bool { return !l.live(now) }

// live says that the lease holds at a time.
func (l *Lease) live(now time.Time) bool {
	return l.State != Released && now.Before(l.Until)
}

// Pool says which addresses there are.
type Pool struct {
	First, Last netip.Addr
	// Lease is how long an address is given for.
	Lease time.Duration
	// Router, DNS and Domain are told to clients; none where empty.
	Router netip.Addr
	DNS    []netip.Addr
	Domain string
}

// size is how many addresses there are.
func (p Pool) size() int { return int(number(p.Last)-number(p.First)) + 1 }

// at is address number i.
func (p Pool) at(i int) netip.Addr {
	n := number(p.First) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (p Pool) has(a netip.Addr) bool {
	return a.Is4() && p.First.Compare(a) <= 0 && a.Compare(p.Last) <= 0
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
