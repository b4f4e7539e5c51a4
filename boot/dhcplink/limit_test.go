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
