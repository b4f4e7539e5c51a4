package dhcplink

import (
	"encoding/binary"
	"testing"
	"time"

	"rubus/config/device"
)

// TestLimiter: a thousand boards that get power at the same moment are all answered, and
// whoever makes up boards without end is not.
func TestLimiter(t *testing.T) {
	l, now := NewLimiter(Limits{}), time.Unix(1e9, 0)
	asks := func(board uint32) bool {
		var mac device.MAC
		binary.BigEndian.PutUint32(mac[2:], board)
		return l.Board(mac, now) && l.Answer(now)
	}
	for message := range 2 { // DISCOVER and REQUEST
		for board := range uint32(1000) {
			if !asks(board) {
				t.Fatalf("message %d of board %d is not answered", message, board)
			}
		}
	}
	now = now.Add(time.Minute)
	for board := range uint32(4096) {
		asks(2000 + board) // until no more go in one go
	}
	answered := 0
	for board := range uint32(10_000) {
		if now = now.Add(time.Millisecond); asks(10_000 + board) {
			answered++
		}
	}
	if answered < 2000 || answered > 2200 {
		t.Errorf("of 10,000 more in 10 s %d are answered, want 200 a second", answered)
	}
}

// TestLimiterPerBoard: one board has so many requests in one go, and then one a second, also when
// the clock is older than the Limiter's first request.
func TestLimiterPerBoard(t *testing.T) {
	l, now := NewLimiter(Limits{}), time.Unix(1e9, 0)
	many := func(mac device.MAC) (n int) {
		for l.Board(mac, now) {
			n++
		}
		return n
	}
	a, b := device.MAC{2, 0, 0, 0, 0, 1}, device.MAC{2, 0, 0, 0, 0, 2}
	for _, step := range []struct {
		name  string
		mac   device.MAC
		after time.Duration
		want  int
	}{
		{"in one go", a, 0, 8},
		{"at once again", a, 0, 0},
		{"another board", b, 0, 8},
		{"before a second is over", a, 999 * time.Millisecond, 0},
		{"after a second", a, time.Millisecond, 1},
		{"after three", a, 3 * time.Second, 3},
		{"after a minute", a, time.Minute, 8},
		{"an older clock", a, -time.Hour, 0},
	} {
		now = now.Add(step.after)
		if n := many(step.mac); n != step.want {
			t.Errorf("%s: %d, want %d", step.name, n, step.want)
		}
	}
}
