package sunrpc

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestReplySource: a socket bound to all addresses answers from the one that
// was asked; a client that asked another takes no notice of the reply.
func TestReplySource(t *testing.T) {
	for _, network := range []string{"udp", "udp4"} {
		t.Run(network, func(t *testing.T) {
			pc, err := net.ListenPacket(network, ":0")
			if err != nil {
				t.Fatal(err)
			}
			port := pc.LocalAddr().(*net.UDPAddr).Port
			c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 85, 83, 2), Port: port})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			ask := func(xid uint32) {
				t.Helper()
				if _, err := c.Write(message(xid, procNull)); err != nil {
					t.Fatal(err)
				}
			}
			ask(1) // waits in the socket before the server knows of it
			s := New(Config{Programs: []Program{newFake()}})
			over := make(chan error)
			go func() { over <- s.Serve(context.Background(), nil, []net.PacketConn{pc}) }()
			b := make([]byte, 100)
			for xid := range byte(2) {
				if n, err := c.Read(b); err != nil || n != 24 || b[3] != 1+xid {
					t.Fatalf("%d bytes, xid %d, %v", n, b[3], err)
				}
				ask(2)
			}
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-over; err != nil {
				t.Error(err)
			}
		})
	}
}
