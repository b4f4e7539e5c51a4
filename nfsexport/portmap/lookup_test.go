package portmap

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// answer is a reply to GETPORT.
func answer(port uint32) []byte { return words(7, 1, 0, 0, 0, 0, port) }

func TestParseAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		port uint16
		ok   bool
	}{
		{"a port", answer(20048), 20048, true},
		{"none", answer(0), 0, true},
		{"no port at all", answer(65536), 0, false},
		{"to another call", words(8, 1, 0, 0, 0, 0, 111), 0, false},
		{"a call", words(7, 0, 0, 0, 0, 0, 111), 0, false},
		{"denied", words(7, 1, 1, 0, 0, 0, 111), 0, false},
		{"no such program", words(7, 1, 0, 0, 0, 1, 0), 0, false},
		{"cut short", answer(20048)[:20], 0, false},
		{"empty", nil, 0, false},
		{"a verifier that is too long", words(7, 1, 0, 0, 1<<31, 0, 111), 0, false},
	} {
		if port, err := parseAnswer(c.b, 7); port != c.port || (err == nil) != c.ok {
			t.Errorf("%s: port %d, %v", c.name, port, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(answer(20048))
	f.Add(words(7, 1, 0, 0, 400, 0, 111))
	f.Fuzz(func(t *testing.T, b []byte) {
		if port, err := parseAnswer(b, 7); err != nil && port != 0 {
			t.Errorf("port %d and %v", port, err)
		}
	})
}

// A port mapper that answers too much, or nothing, is an error in time.
func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply []byte
		port  uint16
		ok    bool
	}{
		{"an answer", append([]byte{0x80, 0, 0, 28}, words(0x72756275, 1, 0, 0, 0, 0, 20048)...), 20048, true},
		{"in fragments", append([]byte{0, 0, 0, 28}, words(0x72756275, 1, 0, 0, 0, 0, 20048)...), 0, false},
		{"too long", []byte{0xff, 0xff, 0xff, 0xff}, 0, false},
		{"cut off", []byte{0x80, 0, 0, 28, 1}, 0, false},
		{"nothing", nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := make(chan []byte, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				b := make([]byte, 60)
				_, _ = io.ReadFull(conn, b)
				asked <- b
				_, _ = conn.Write(c.reply)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			port, err := Lookup(ctx, l.Addr().(*net.TCPAddr).AddrPort(), Mapping{Program: 100005, Version: 3, Protocol: TCP})
			if port != c.port || (err == nil) != c.ok {
				t.Errorf("port %d, %v", port, err)
			}
			if b := <-asked; binary.BigEndian.Uint32(b) != 1<<31|56 || binary.BigEndian.Uint32(b[24:]) != procGetPort || binary.BigEndian.Uint32(b[44:]) != 100005 {
				t.Errorf("asked: % x", b)
			}
		})
	}
	if _, err := Lookup(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), Mapping{}); err == nil {
		t.Error("nobody listens, and there is no error")
	}
}
