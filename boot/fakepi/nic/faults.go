package nic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"
	"time"

	"rubus/config/device"
)

// Faults are what a bad network does to a board's packets, both ways.
type Faults struct {
	// Loss and Dup are shares of the packets, from 0 to 1, that do not come or
	// come twice.
	Loss, Dup float64
	// Delay is how long each packet takes.
	Delay time.Duration
	// Seed chooses which packets are hit. With the same one they are the same
	// each time that a board does the same.
	Seed uint64
}

// Any says that there are faults at all.
func (f Faults) Any() bool { return f.Loss > 0 || f.Dup > 0 || f.Delay > 0 }

// Check says what is wrong with the numbers.
func (f Faults) Check() error {
	const mostDelay = time.Minute
	for _, p := range []float64{f.Loss, f.Dup} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("%g is no share of the packets: want 0 to 100 %%", 100*p)
		}
	}
	if f.Delay < 0 || f.Delay > mostDelay {
		return fmt.Errorf("a delay of %s: want 0 to %s", f.Delay, mostDelay)
	}
	return nil
}

// Faulty is a card on a bad network. Only the board's own UDP is hit: what else
// goes over the link differs from run to run, and ARP is the host's business.
//
// Whether a packet is lost follows from what is in it and how often it came
// before, not from how many packets there were: so other boards' packets, and
// repetitions that depend on the time, change nothing for the rest.
func Faulty(link Link, mac device.MAC, f Faults) Link {
	return &faulty{Link: link, mac: mac, faults: f}
}

type faulty struct {
	Link
	mac      device.MAC
	faults   Faults
	in, out  history
	held     []heldFrame // came in and is not due yet, the oldest first
	deadline time.Time
	closed   atomic.Bool
}

type heldFrame struct {
	due   time.Time
	frame []byte
}

// history is how often each packet of a direction came, of the latest ones: what
// is sent again may come with others' packets in between.
type history struct {
	times map[uint64]uint64
	order []uint64 // a ring of the keys in times
	next  int
}

// remembered is far more than what is said between two tries of anything.
const remembered = 4096

// seen counts a packet, and says how often it came before.
func (h *history) seen(key uint64) uint64 {
	n, ok := h.times[key]
	switch {
	case ok:
	case h.times == nil:
		h.times = map[uint64]uint64{}
		fallthrough
	case len(h.order) < remembered:
		h.order = append(h.order, key)
	default:
		delete(h.times, h.order[h.next])
		h.order[h.next] = key
		h.next = (h.next + 1) % remembered
	}
	h.times[key] = n + 1
	return n
}

// ReadFrame implements Link.
func (l *faulty) ReadFrame(b []byte) (int, error) {
	for {
		until := l.deadline
		if len(l.held) > 0 {
			first := l.held[0]
			if !time.Now().Before(first.due) {
				l.held = l.held[1:]
				return copy(b, first.frame), nil
			}
			if until.IsZero() || first.due.Before(until) {
				until = first.due
			}
		}
		if err := l.Link.SetReadDeadline(until); err != nil {
			return 0, err
		}
		n, err := l.Link.ReadFrame(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !l.deadline.IsZero() && !time.Now().Before(l.deadline) {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		}
		copies := l.copies(&l.in, b[:n], 0)
		if copies == 1 && l.faults.Delay == 0 && len(l.held) == 0 {
			return n, nil
		}
		for range copies {
			l.held = append(l.held, heldFrame{time.Now().Add(l.faults.Delay), append([]byte(nil), b[:n]...)})
		}
	}
}

// SetReadDeadline implements Link.
func (l *faulty) SetReadDeadline(t time.Time) error {
	l.deadline = t
	return nil
}

// WriteFrame implements Link. A frame that is delayed is sent by the clock.
func (l *faulty) WriteFrame(b []byte) error {
	for range l.copies(&l.out, b, 1) {
		if l.faults.Delay == 0 {
			if err := l.Link.WriteFrame(b); err != nil {
				return err
			}
			continue
		}
		frame := append([]byte(nil), b...)
		time.AfterFunc(l.faults.Delay, func() {
			if !l.closed.Load() {
				_ = l.Link.WriteFrame(frame) // a frame lost with its card
			}
		})
	}
	return nil
}

// Close implements Link.
func (l *faulty) Close() error {
	l.closed.Store(true)
	return l.Link.Close()
}

// copies says how often a frame arrives: usually once.
func (l *faulty) copies(h *history, frame []byte, direction byte) int {
	key, ok := l.packet(frame, direction)
	if !ok {
		return 1
	}
	times := h.seen(key)
	switch {
	case l.chance(key, times, 'l') < l.faults.Loss:
		return 0
	case l.chance(key, times, 'd') < l.faults.Dup:
		return 2
	}
	return 1
}

// packet is what a packet of the board's is known by: its direction, the board,
// the board's port, and what it says. The server's port is a new one each time.
func (l *faulty) packet(frame []byte, direction byte) (key uint64, ok bool) {
	dst, src, etherType, ip, err := splitEth(frame)
	if err != nil || etherType != etherIPv4 || (direction == 0 && dst != l.mac && dst != broadcast) || (direction == 1 && src != l.mac) {
		return 0, false
	}
	d, err := parseUDP(ip, false)
	if err != nil {
		return 0, false
	}
	port := d.Dst.Port()
	if direction == 1 {
		port = d.Src.Port()
	}
	hash := fnv.New64a()
	_, _ = hash.Write(l.mac[:])
	_, _ = hash.Write([]byte{direction, byte(port >> 8), byte(port)})
	_, _ = hash.Write(d.Payload)
	return hash.Sum64(), true
}

// chance is a number from 0 to 1 that a packet's time draws.
func (l *faulty) chance(key, times uint64, what byte) float64 {
	hash := fnv.New64a()
	var b [25]byte
	binary.LittleEndian.PutUint64(b[:], l.faults.Seed)
	binary.LittleEndian.PutUint64(b[8:], key)
	binary.LittleEndian.PutUint64(b[16:], times)
	b[24] = what
	_, _ = hash.Write(b[:])
	x := hash.Sum64()
	// FNV's upper bits hardly change with the last bytes: mix them (splitmix64).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}
