package sunrpc

import (
	"errors"
	"io"
	"net"
	"testing"
)

// TestTogetherCut: calls that are done together come in two pieces, cut anywhere, or the
// second never comes: each call that came whole is answered, once and in order.
func TestTogetherCut(t *testing.T) {
	j := &joining{fake: newFake()}
	_, addr := start(t, Config{Programs: []Program{j}})
	var stream []byte
	var ends []int
	for i := range uint32(5) {
		stream = append(stream, framed(message(i, procEcho, []uint32{7, 20 + i, 3, 4}[:2+i%3]...))...)
		ends = append(ends, len(stream))
	}
	// whole is how many of the calls lie in the first n bytes.
	whole := func(n int) (k int) {
		for k < len(ends) && ends[k] <= n {
			k++
		}
		return k
	}
	for cut := range len(stream) + 1 {
		for _, more := range []bool{false, true} {
			c := dial(t, addr)
			c.send(stream[:cut]...)
			got := 0
			answers := func(until int) {
				t.Helper()
				for ; got < until; got++ {
					if r := c.reply(); r.Uint32() != uint32(got) {
						t.Fatalf("cut at %d: another reply than that to call %d", cut, got)
					}
				}
			}
			if answers(whole(cut)); more {
				c.send(stream[cut:]...)
				answers(len(ends))
			}
			if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := c.tryReply(); !errors.Is(err, io.EOF) {
				t.Fatalf("cut at %d: %d bytes more, %v", cut, len(b), err)
			}
			c.nc.Close()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.sizes) == 0 {
		t.Error("none were done together")
	}
}
