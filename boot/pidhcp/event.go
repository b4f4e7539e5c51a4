package pidhcp

import (
	"context"
	"net/netip"
	"time"
)

// Sighting is a DISCOVER of a Pi on one of our links.
type Sighting struct {
	Request
	// Time is when it was heard, and Interface where.
	Time      time.Time
	Interface string
	// Server is the address that an answer would name.
	Server netip.Addr
}

// Decision is what to do about a Sighting.
type Decision struct {
	// Answer says whether the board gets an OFFER.
	Answer bool
	// Why says in words why it does or does not.
	Why string
	// Client is the address that the board will have, when that is known: the
	// answer then comes from our address in its subnet.
	Client netip.Addr
}

// Decider decides who is answered.
type Decider interface {
	// Decide is called for one DISCOVER at a time and interface. Further ones
	// wait in the socket's buffer meanwhile, so it must not block for long.
	Decide(ctx context.Context, s Sighting) Decision
}

// What is the kind of an Event.
type What string

// The kinds of events.
const (
	// Listening and Gone: an interface is served from now, or no longer.
	Listening What = "listening"
	Gone      What = "gone"
	// Answered: an OFFER was sent. Repeated: it was sent again.
	Answered What = "answered"
	Repeated What = "repeated"
	// Acked: an address was given or given longer. Denied: a NAK was sent.
	Acked  What = "acked"
	Denied What = "denied"
	// Noted: a Pi sent another message than a DISCOVER.
	Noted What = "noted"
	// Unserved: no addresses are given out at present, or none is free; Why says
	// which.
	Unserved What = "unserved"
	// Refused: the Decider said no. Ignored: no Pi; Reason says why. Limited:
	// a rate limit was hit.
	Refused What = "refused"
	Ignored What = "ignored"
	Limited What = "limited"
	// Failed: an OFFER could not be sent.
	Failed What = "failed"
	// OtherOffer: another server spoke.
	OtherOffer What = "other-offer"
)

// Event is one fact. Every DISCOVER of a Pi is one Event or, when it is answered
// more than once, several; so is every OFFER and ACK of another server. The fields that do not belong to its kind are zero.
type Event struct {
	What      What
	Time      time.Time
	Interface string
	// Request is the Pi's, for all kinds from Answered to Limited, and Failed.
	// Of an ordinary client that is given an address it has the Header only.
	Request Request
	// Server is the address that answered (Answered, Repeated, Failed).
	Server netip.Addr
	// Address is what the answer gives the board; invalid from a proxy.
	Address netip.Addr
	// Reason is why a packet was Ignored.
	Reason Reason
	// Why is the Decider's word (Answered, Refused), or says why there is no
	// address (Unserved, Denied).
	Why string
	// Offer is what the other server said (OtherOffer).
	Offer Offer
	// Err is what went wrong (Failed, Gone).
	Err error
}
