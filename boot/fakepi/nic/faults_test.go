package nic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rubus/config/device"
)

// lossy sends numbered datagrams from a host to a board with faults, or back,
// and says which came, how often, and how long they took.
func lossy(t *testing.T, f Faults, n int, toBoard bool) (came map[uint32]int, took time.Duration) {
	a, b := Pipe()
	defer a.Close()
	hostMAC := device.MAC{2, 0, 0, 0, 0, 1}
	board, host := NewStack(Faulty(a, boardMAC, f), boardMAC), NewStack(b, hostMAC)
	hostIP := netip.MustParsePrefix("10.0.0.1/24")
	board.SetAddr(boardIP, netip.Addr{})
	host.SetAddr(hostIP, netip.Addr{})
	board.peers[hostIP.Addr()], host.peers[boardIP.Addr()] = hostMAC, boardMAC
	from, to, dst := host, board, netip.AddrPortFrom(boardIP.Addr(), 49152)
	if !toBoard {
		from, to, dst = board, host, netip.AddrPortFrom(hostIP.Addr(), 69)
	}
	came = map[uint32]int{}
	for i := range uint32(n) {
		begin := time.Now()
		if err := from.Send(t.Context(), 49152, dst, binary.BigEndian.AppendUint32(nil, i)); err != nil {
			t.Fatal(err)
		}
		for {
			d, err := to.Receive(t.Context(), time.Now().Add(200*time.Millisecond))
			if errors.Is(err, ErrTimeout) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			came[binary.BigEndian.Uint32(d.Payload)]++
			took = max(took, time.Since(begin))
		}
	}
	return came, took
}

func TestFaults(t *testing.T) {
	const n = 2000
	for name, toBoard := range map[string]bool{"to the board": true, "from it": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := Faults{Loss: 0.1, Dup: 0.05, Delay: 20 * time.Millisecond, Seed: 1}
				came, took := lossy(t, f, n, toBoard)
				twice := 0
				for _, times := range came {
					twice += times - 1
				}
				if lost := 1 - float64(len(came))/n; math.Abs(lost-0.1) > 0.02 {
					t.Errorf("%.3f lost, want 0.1", lost)
				}
				if dup := float64(twice) / n; math.Abs(dup-0.05) > 0.02 {
					t.Errorf("%.3f came twice, want 0.05", dup)
				}
				if took < f.Delay || took > f.Delay+time.Millisecond {
					t.Errorf("the longest took %v", took)
				}
				again, _ := lossy(t, f, n, toBoard)
				f.Seed = 2
				other, _ := lossy(t, f, n, toBoard)
				if !slices.Equal(missing(came, n), missing(again, n)) || slices.Equal(missing(came, n), missing(other, n)) {
					t.Error("which packets are lost does not follow from the seed")
				}
			})
		})
	}
}

func missing(came map[uint32]int, n int) (out []uint32) {
	for i := range uint32(n) {
		if came[i] == 0 {
			out = append(out, i)
		}
	}
	return out
}

// TestRepetition: a packet that is sent again is not lost again for sure, with
// others in between neither.
func TestRepetition(t *testing.T) {
	saying := func(text string) []byte {
		return appendUDP(appendEth(nil, broadcast, boardMAC, etherIPv4),
			netip.MustParseAddrPort("10.0.0.17:49152"), netip.MustParseAddrPort("10.0.0.1:69"), []byte(text), false)
	}
	frame := saying("the same")
	for name, between := range map[string]int{"in a row": 0, "with another between": 1, "with many between": remembered - 1} {
		l := Faulty(nil, boardMAC, Faults{Loss: 0.5, Seed: 3}).(*faulty)
		came := 0
		for range 200 {
			came += l.copies(&l.out, frame, 1)
			for i := range between {
				l.copies(&l.out, saying(fmt.Sprint("another, ", i)), 1)
			}
		}
		if came < 70 || came > 130 {
			t.Errorf("%s: %d of 200 came", name, came)
		}
	}
	l := Faulty(nil, boardMAC, Faults{Seed: 3}).(*faulty)
	for i := range 3 * remembered {
		l.copies(&l.out, saying(fmt.Sprint(i)), 1)
	}
	if len(l.out.times) != remembered || len(l.out.order) != remembered {
		t.Errorf("%d and %d packets are remembered", len(l.out.times), len(l.out.order))
	}
	other := slices.Clone(frame)
	other[11]++ // from another card
	if _, ok := l.packet(other, 1); ok {
		t.Error("another's packet is hit")
	}
}

func TestFaultsCheck(t *testing.T) {
	for _, f := range []Faults{{Loss: -0.1}, {Loss: 1.1}, {Dup: math.NaN()}, {Delay: -1}, {Delay: time.Hour}} {
		if f.Check() == nil {
			t.Errorf("%+v was taken", f)
		}
	}
	if err := (Faults{Loss: 1, Dup: 0.5, Delay: time.Second}).Check(); err != nil {
		t.Error(err)
	}
}
