package flow

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

// askTFTP sends packets to the server's TFTP port, each from a port of its own,
// and gives the first answer of any; "" when all stay without one.
func askTFTP(n *netns, packets ...string) (answer string, err error) {
	err = n.do(func() error {
		var conns []*net.UDPConn
		for _, p := range packets {
			c, err := net.ListenUDP("udp4", nil) // answers come from another port
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.WriteToUDP([]byte(p), &net.UDPAddr{IP: net.ParseIP(hostAddr), Port: 69}); err != nil {
				return err
			}
			conns = append(conns, c)
		}
		end := time.Now().Add(2 * time.Second)
		buf := make([]byte, 600)
		for _, c := range conns {
			if err := c.SetReadDeadline(end); err != nil {
				return err
			}
			n, err := c.Read(buf)
			if err == nil {
				answer = string(buf[:n])
				return nil
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
		return nil
	})
	return answer, err
}

// Who is no board gets no TFTP answer, not even a refusal. A board is refused what
// it may not do, and however many names it tries, the log has it once.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	s.devices(deviceLines("serial: " + serialA))
	d := s.serve()
	a := s.newBoard("4b", serialA, macA)
	a.boot("10.77.0.20")
	requests := []string{
		"\x00\x02" + serialA + "/config.txt\x00octet\x00", "\x00\x01" + serialA + "/config.txt\x00netascii\x00",
		"\x00\x01" + serialA + "/config.txt\x00octet\x00", "\x00\x01nothing\x00octet\x00", "\x00\x09",
	}
	stranger := newNetns(t)
	s.plug(stranger, "stranger0", "02:00:00:00:00:99", "10.77.0.99")
	if answer, err := askTFTP(stranger, requests...); err != nil || answer != "" {
		t.Errorf("a stranger is answered %q, %v", answer, err)
	}
	for i, want := range []string{"\x00\x05\x00\x02", "\x00\x05\x00\x04"} {
		harness.Until(t, 10*time.Second, "the board is answered", func() error {
			answer, err := askTFTP(a.net, requests[i])
			if err == nil && !strings.HasPrefix(answer, want) {
				err = fmt.Errorf("%q to %q", answer, requests[i])
			}
			return err
		})
	}
	from := d.End()
	for i := range 40 {
		if _, err := askTFTP(a.net, fmt.Sprintf("\x00\x01%s/../../x%d\x00octet\x00", serialA, i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(d.Text(from), "a file is refused"); n > 1 {
		t.Errorf("40 names that lead out make %d lines in the log:\n%s", n, d.Text(from))
	}
}
