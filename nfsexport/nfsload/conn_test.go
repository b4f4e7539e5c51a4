package nfsload

import (
	"net"
	"testing"
)

// TestDialOverAndOver: who makes more connections than there are ports below 1024 gets all
// of them, though the kernel keeps the port of each for a minute after it is closed.
func TestDialOverAndOver(t *testing.T) {
	for range 3 { // servers, as a benchmark has several
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = c.Read(make([]byte, 1)) // until the other end closes it
					_ = c.Close()
				}()
			}
		}()
		for i := range 300 {
			c, err := Dial(l.Addr().String())
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
