package proxydhcp

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
	// Noted: a Pi sent another message than a DISCOVER.
	Noted What = "noted"
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

// Event is one fact. The fields that do not belong to its kind are zero.
type Event struct {
	What      What
	Time      time.Time
	Interface string
	// Request is the Pi's, for Answered, Repeated, Noted, Refused, Limited and
	// Failed.
	Request Request
	// Server is the address that answered (Answered, Repeated, Failed).
	Server netip.Addr
	// Reason is why a packet was Ignored.
	Reason Reason
	// Why is the Decider's word (Answered, Refused).
	Why string
	// Offer is what the other server said (OtherOffer).
	Offer Offer
	// Err is what went wrong (Failed, Gone).
	Err error
}

// Clock is the time, and timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own after d; stop cancels that.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// systemClock is the real one.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}
