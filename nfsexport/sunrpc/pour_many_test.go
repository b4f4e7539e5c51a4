package sunrpc

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnsweredTogether: replies to large records that came together wait for nothing that
// has not come: neither for the rest of a record, nor for the next one.
func TestAnsweredTogether(t *testing.T) {
	const size = 64 << 10
	s, addr := start(t, Config{Programs: []Program{newPourer(t)}})
	s.watch.mu.Lock()
	s.watch.every = time.Hour // else one that takes long is answered behind the next
	s.watch.mu.Unlock()
	c := dial(t, addr)
	c.warm(size)
	for _, half := range []int{0, 2, markSize + 20, markSize + 52, size / 2} {
		next := large(7, size, endsWell, noise(2, size))
		stream := next[:half:half]
		for i := range uint32(12) { // more than are answered together
			stream = append(large(12-i, 0, endsWell, noise(1, size)), stream...)
		}
		c.send(stream...)
		for i := range uint32(12) {
			words(t, c.reply(), 1+i, 1, ok, 0, 0, 0, size, 0)
		}
		if half > 0 {
			c.send(next[half:]...)
			words(t, c.reply(), 7, 1, ok, 0, 0, 0, size, 0)
		}
	}
}

// TestPourMany: calls of several connections, in flight at once, each write their own.
func TestPourMany(t *testing.T) {
	const size, conns, calls = 128 << 10, 3, 24
	p := newPourer(t)
	s, addr := start(t, Config{Programs: []Program{p}, Limits: Limits{Pipes: 8}})
	var want [conns * calls][]byte
	var all sync.WaitGroup
	for k := range conns {
		c := dial(t, addr)
		var stream []byte
		for i := range calls {
			n := k*calls + i
			want[n] = noise(uint64(n), size)
			stream = append(stream, large(uint32(i), uint32(n*size), endsWell, want[n])...)
			if i%5 == 0 {
				stream = append(stream, framed(message(1000, procNull))...)
			}
		}
		all.Go(func() { c.send(stream...) })
		all.Go(func() {
			for range calls + (calls+4)/5 {
				b, err := c.tryReply()
				if err != nil || len(b) != 24 && (len(b) != 32 || binary.BigEndian.Uint32(b[24:]) != size) {
					t.Errorf("reply %x, %v", b, err)
				}
			}
		})
	}
	all.Wait()
	got := make([]byte, size)
	for n := range want {
		if _, err := unix.Pread(p.file(), got, int64(n*size)); err != nil || !bytes.Equal(got, want[n]) {
			t.Errorf("call %d: other bytes, %v", n, err)
		}
	}
	if n := p.poured.Load(); n == 0 {
		t.Error("none went through a pipe")
	}
	if idle, made := idlePipes(s); idle != made {
		t.Errorf("%d of %d pipes wait", idle, made)
	}
}
