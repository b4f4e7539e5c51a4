package netconsole

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		want         []string
	}{
		{"a line", "[    1.0] smsc95xx: link up\n", []string{"[    1.0] smsc95xx: link up"}},
		{"several", "one\r\ntwo\n\nthree", []string{"one", "two", "three"}},
		{"extended", "6,416,1758426,-;smsc95xx: link up\n", []string{"smsc95xx: link up"}},
		{"extended, with release", "6.1.0-56-arm64,6,416,1758426,-,ncfrag=0/5;link\n", []string{"link"}},
		{"no header", "a, b, c, d; e", []string{"a, b, c, d; e"}},
		{"escapes", "\x1b[31mred\x00\ttab\x07", []string{"?[31mred? tab?"}},
		{"no UTF-8", "a\xff\xfeb", []string{"a?b"}},
		{"long", strings.Repeat("ä", 400), []string{strings.Repeat("ä", 150)}},
		{"nothing", "\n\x00\n  \n", nil},
	} {
		if got := lines([]byte(c.packet)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := lines([]byte(strings.Repeat("x\n", 1000))); len(got) != maxLines {
		t.Errorf("%d lines of one packet", len(got))
	}
}

// A flood of one sender is cut, and the lines of another get through.
func TestServe(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := map[string]int{}, make(chan error, 1)
	go func() {
		done <- Serve(ctx, conn, func(l Line) {
			if heard[l.From.String()]++; l.Text == "end" {
				cancel()
			}
		})
	}()
	send := func(from byte, text string) {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, from)}, conn.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for range 40 {
		send(2, strings.Repeat("flood\n", maxLines))
	}
	// Datagrams of one host keep their order on the loopback.
	send(3, "line\nend\n")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := heard["127.0.0.2"]; n < burst || n > burst+perSecond {
		t.Errorf("%d lines of the flood were heard", n)
	}
	if heard["127.0.0.3"] != 2 {
		t.Errorf("of the other, %d lines were heard", heard["127.0.0.3"])
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"6,416,1758426,-;x\n", "\x1b[0m\n", "\xff;\xff", fmt.Sprint(strings.Repeat(",", 99), ";")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range lines(b) {
			if len(l) > maxLine || !utf8.ValidString(l) || strings.ContainsAny(l, "\n\r\x00\x1b") {
				t.Errorf("line %q", l)
			}
		}
	})
}
