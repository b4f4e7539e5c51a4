// Package binding says which MAC may speak for a board, and when that board may take another
// root.
//
// A board is its MAC. Whoever is refused here can be an intruder, or the board with a new
// card: so nothing is refused for ever, and all of it says why.
package binding

import (
	"errors"
	"fmt"
	"net/netip"

	"rubus/config/device"
)

// Errors that a board's requests are refused with.
var (
	// ErrRefused: the caller is not the board.
	ErrRefused = errors.New("refused")
	// ErrMayBeUp wraps ErrRefused: it is because the board is up, or may be. Whether it is
	// should be found out.
	ErrMayBeUp = fmt.Errorf("%w", ErrRefused)
)

// Board is what is known of who a board is. It is a value.
type Board struct {
	Serial device.Serial
	// Entry is the MAC that devices.yaml gives it, Bound the one with which it mounted its
	// root, Claim the one that was heard in DHCP with its identity; zero: none.
	Entry, Bound, Claim device.MAC
	// Address is the address that devices.yaml gives it: off the link, where no MAC is seen,
	// it is the board's only name.
	Address netip.Addr
	// MayBeUp says that it stands on a root of ours and is not proved down.
	MayBeUp bool
	// Booting says that it asked to boot, by DHCP, since it mounted its root.
	Booting bool
	// TrustFirst binds a board to the first MAC that asks for its files, when none was heard
	// in DHCP; then a boot is not heard, either.
	TrustFirst bool
}

// MayAsk says whether a DISCOVER with the board's identity that came from a MAC is the
// board's. The error is ErrMayBeUp.
func (b *Board) MayAsk(mac device.MAC) error {
	offLink := b.Bound.IsZero() && b.Address.IsValid()
	if b.MayBeUp && b.Bound != mac && !offLink {
		return ErrMayBeUp
	}
	return nil
}

// IsOffLink says whether an address that no neighbour table knows is the board's. The error
// wraps ErrRefused.
func (b *Board) IsOffLink(addr netip.Addr) error {
	if b.Address.IsValid() && b.Address == addr {
		return nil
	}
	return fmt.Errorf("%s is not on a link of this server and no address: of board %s in devices.yaml: %w", addr, b.Serial, ErrRefused)
}

// IsAt says whether the board is at an address that has a MAC on the link; isNobodys says
// whether no other board has that. The error wraps ErrRefused, and may be ErrMayBeUp.
func (b *Board) IsAt(addr netip.Addr, mac device.MAC, isNobodys func(device.MAC) bool) error {
	if b.MayBeUp && mac != b.Bound {
		return fmt.Errorf("%s has MAC %s, and board %s is up as %s: %w", addr, mac, b.Serial, b.Bound, ErrMayBeUp)
	}
	ok := false
	switch {
	case !b.Entry.IsZero():
		ok = mac == b.Entry
	case !b.Claim.IsZero():
		ok = mac == b.Claim
	case !b.Bound.IsZero():
		ok = mac == b.Bound
	default:
		// Never heard: a Pi up to the 3 derives its MAC from its serial.
		ok = mac == b.Serial.PiMAC() || (b.TrustFirst && isNobodys(mac))
	}
	if !ok {
		return fmt.Errorf("%s has MAC %s, which is not that of board %s: %w", addr, mac, b.Serial, ErrRefused)
	}
	return nil
}

// MayTake says whether a MAC, which is zero off the link, may mount a root as the board;
// another says that the board stands on another one. What would take the root from under a
// board that is up is ErrMayBeUp.
func (b *Board) MayTake(mac device.MAC, another bool) error {
	switch {
	case !b.MayBeUp:
		return nil
	case mac != b.Bound:
		return fmt.Errorf("board %s is up as %s and another MAC, %s, wants its root: %w", b.Serial, b.Bound, mac, ErrMayBeUp)
	case another && !b.MayLeave():
		return fmt.Errorf("board %s is up and did not ask to boot by DHCP before it asked for another root: %w", b.Serial, ErrMayBeUp)
	}
	return nil
}

// MayLeave says that the board is no longer on its root when it asks to boot, as far as that
// can be told before it mounts another.
func (b *Board) MayLeave() bool {
	return !b.MayBeUp || b.Bound.IsZero() || b.TrustFirst || b.Booting
}
