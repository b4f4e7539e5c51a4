package netconsole

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// Line is one line that a machine printed. Anybody on the network can send one.
type Line struct {
	From netip.Addr
	// Text has no control characters and at most maxLine bytes.
	Text string
}

// Bounds of what is listened to. A kernel that boots prints some 500 lines in ten
// seconds.
const (
	maxPacket = 8 << 10
	maxLine   = 300
	maxLines  = 64 // of one packet
	perSecond = 100
	burst     = 1000
	maxPeers  = 1024
)

// Serve hands every line that comes to conn to hear, until ctx ends; then it
// closes conn. What one address sends beyond 100 lines a second for long is
// dropped. Hear runs on Serve's goroutine.
func Serve(ctx context.Context, conn *net.UDPConn, hear func(Line)) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	limits := map[netip.Addr]*rate.Limiter{}
	buf := make([]byte, maxPacket)
	for failures := 0; ; {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listening for boards' consoles: %w", err)
		case err != nil:
			if failures++; failures > 100 {
				return fmt.Errorf("listening for boards' consoles: %w", err)
			}
			continue
		}
		failures = 0
		addr := from.Addr().Unmap()
		l := limits[addr]
		if l == nil {
			if len(limits) >= maxPeers {
				clear(limits)
			}
			l = rate.NewLimiter(perSecond, burst)
			limits[addr] = l
		}
		for _, text := range lines(buf[:n]) {
			if l.Allow() {
				hear(Line{addr, text})
			}
		}
	}
}

// lines splits a packet. The kernel's extended form has a header before a
// semicolon (Documentation/networking/netconsole.rst): it is left out.
func lines(packet []byte) (out []string) {
	for line := range strings.SplitSeq(string(packet), "\n") {
		if head, text, ok := strings.Cut(line, ";"); ok && isHeader(head) {
			line = text
		}
		if line = clean(line); line != "" {
			out = append(out, line)
		}
		if len(out) == maxLines {
			break
		}
	}
	return out
}

// isHeader says whether a text is "level,number,microseconds,flags[,more]", with
// the kernel's release before it when that is asked for.
func isHeader(s string) bool {
	parts := strings.Split(s, ",")
	if len(parts) < 4 {
		return false
	}
	digits := 0
	for _, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			digits++
		}
	}
	return digits >= 3
}

// clean makes a line fit for a terminal and a record.
func clean(s string) string {
	s = strings.ToValidUTF8(strings.TrimRight(s, " \r\x00"), "?")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	if len(s) > maxLine {
		s = s[:maxLine]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}
