package binding

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"rubus/config/device"
)

var (
	serial  = must(device.ParseSerial("b8123456"))
	derived = serial.PiMAC()
	card    = device.MAC{0xdc, 0xa6, 0x32, 0, 0, 1}
	former  = device.MAC{0xdc, 0xa6, 0x32, 0, 0, 2}
	evil    = device.MAC{2, 0, 0, 0, 0, 66}
	none    = device.MAC{}
	address = netip.MustParseAddr("10.77.0.50")
	other   = netip.MustParseAddr("10.77.0.51")
)

func must(s device.Serial, err error) device.Serial {
	if err != nil {
		panic(err)
	}
	return s
}

// holds says whether an error is what was wanted: nil, ErrRefused alone, or ErrMayBeUp.
func holds(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || errors.Is(err, ErrMayBeUp) != (want == ErrMayBeUp) {
		t.Errorf("%v, want %v", err, want)
	}
	if err != nil && (!errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "refused")) {
		t.Errorf("%q", err)
	}
}

// TestIsAt: the MAC of an address is held against the strongest word that there is of the
// board's.
func TestIsAt(t *testing.T) {
	for _, c := range []struct {
		name  string
		board Board
		mac   device.MAC
		taken bool // another board has mac
		want  error
	}{
		{"as devices.yaml says", Board{Entry: card, Claim: evil, Bound: former}, card, false, nil},
		{"not as devices.yaml says, whatever was heard", Board{Entry: card, Claim: evil, Bound: former}, evil, false, ErrRefused},
		{"as it was heard", Board{Claim: card, Bound: former}, card, false, nil},
		{"not as it was heard, though it was that before", Board{Claim: card, Bound: former}, former, false, ErrRefused},
		{"as it was bound", Board{Bound: former}, former, false, nil},
		{"not as it was bound, though it is that of a Pi 3 of its serial", Board{Bound: former}, derived, false, ErrRefused},
		{"never heard, a Pi 3", Board{}, derived, false, nil},
		{"never heard, another", Board{}, card, false, ErrRefused},
		{"never heard, and the first counts", Board{TrustFirst: true}, card, false, nil},
		{"never heard, the first counts, and it is another board's", Board{TrustFirst: true}, card, true, ErrRefused},
		{"heard, and the first counts", Board{TrustFirst: true, Claim: card}, evil, false, ErrRefused},
		{"it is up", Board{Bound: card, MayBeUp: true}, card, false, nil},
		{"it is up as another", Board{Bound: card, MayBeUp: true}, evil, false, ErrMayBeUp},
		{"it is up as another than was heard since", Board{Bound: card, Claim: evil, MayBeUp: true}, evil, false, ErrMayBeUp},
		{"it is up as another than devices.yaml says now", Board{Bound: former, Entry: card, MayBeUp: true}, card, false, ErrMayBeUp},
		{"it is up as devices.yaml said before", Board{Bound: former, Entry: card, MayBeUp: true}, former, false, ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.board.Serial = serial
			holds(t, c.board.IsAt(address, c.mac, func(m device.MAC) bool { return m == c.mac && !c.taken }), c.want)
		})
	}
}

func TestIsOffLink(t *testing.T) {
	for _, c := range []struct {
		name  string
		board Board
		want  error
	}{
		{"its address", Board{Address: address}, nil},
		{"another's", Board{Address: other}, ErrRefused},
		{"devices.yaml gives it none", Board{Bound: card, Claim: card}, ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) { holds(t, c.board.IsOffLink(address), c.want) })
	}
}

// TestMayAsk: a DISCOVER in a board's name.
func TestMayAsk(t *testing.T) {
	for _, c := range []struct {
		name  string
		board Board
		mac   device.MAC
		want  error
	}{
		{"never seen", Board{}, card, nil},
		{"it is up", Board{Bound: card, MayBeUp: true}, card, nil},
		{"another MAC while it is up", Board{Bound: card, MayBeUp: true}, evil, ErrMayBeUp},
		{"another MAC when it is down", Board{Bound: card}, evil, nil},
		{"it is up off the link", Board{Address: address, MayBeUp: true}, card, nil},
		{"it is up on the link, and devices.yaml gives it an address", Board{Bound: card, Address: address, MayBeUp: true}, evil, ErrMayBeUp},
		{"it is up, with no MAC and no address of its own", Board{MayBeUp: true}, card, ErrMayBeUp},
	} {
		t.Run(c.name, func(t *testing.T) { holds(t, c.board.MayAsk(c.mac), c.want) })
	}
}

// TestMayTake: no root is taken from under a board that is up, or may be.
func TestMayTake(t *testing.T) {
	for _, c := range []struct {
		name    string
		board   Board
		mac     device.MAC
		another bool
		want    error
		leaves  bool
	}{
		{"down", Board{Bound: card}, card, true, nil, true},
		{"down, another MAC", Board{Bound: card}, evil, true, nil, true},
		{"up, its own root again", Board{Bound: card, MayBeUp: true}, card, false, nil, false},
		{"up, another MAC", Board{Bound: card, MayBeUp: true, Booting: true}, evil, false, ErrMayBeUp, true},
		{"up, another root", Board{Bound: card, MayBeUp: true}, card, true, ErrMayBeUp, false},
		{"up, another root after a boot of its own", Board{Bound: card, MayBeUp: true, Booting: true}, card, true, nil, true},
		{"up, another root where no DHCP is heard", Board{Bound: card, MayBeUp: true, TrustFirst: true}, card, true, nil, true},
		{"up off the link", Board{MayBeUp: true}, none, true, nil, true},
		{"up on the link, from off the link", Board{Bound: card, MayBeUp: true}, none, true, ErrMayBeUp, false},
		{"up off the link, from the link", Board{MayBeUp: true}, card, true, ErrMayBeUp, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			holds(t, c.board.MayTake(c.mac, c.another), c.want)
			if got := c.board.MayLeave(); got != c.leaves {
				t.Errorf("it may leave: %v", got)
			}
		})
	}
}
