package dhcpserver

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
)

// Nothing is acknowledged that is not on disk.
func TestDiskFull(t *testing.T) {
	b := newBench(t, "", nil)
	mac := client("a")
	b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
	if err := os.RemoveAll(b.state); err != nil {
		t.Fatal(err)
	}
	if got := b.say(message(t, mac, dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1"))); len(got) != 0 {
		t.Errorf("acknowledged without a disk: %v", got)
	}
	if e := b.events[len(b.events)-1]; e.What != pidhcp.Failed || e.Err == nil {
		t.Errorf("%+v", e)
	}
	if got := b.say(message(t, mac, dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1"))); len(got) != 0 {
		t.Errorf("acknowledged when asked again: %v", got)
	}
}

// What was written while the clock was years ahead keeps no address for years.
func TestClockWasAhead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10.0.0.10.json": `{"address":"10.0.0.10","mac":"02:00:00:00:00:99","state":"bound","until":"2051-09-09T00:00:00Z"}`,
		"10.0.0.11.json": `{"address":"10.0.0.11","state":"conflict","until":"2051-09-09T00:00:00Z"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t, dir, nil) // it passes a minute
	now := b.clock.Now()
	for addr, most := range map[string]time.Duration{"10.0.0.10": keepLeases, "10.0.0.11": conflictHold} {
		l := b.book.byAddr[netip.MustParseAddr(addr)]
		if l == nil || !l.live(now) || l.live(now.Add(most)) {
			t.Errorf("%s: %+v", addr, l)
		}
	}
}

// A full disk takes its address from nobody who has it: boards stand on them.
func TestDiskFullLater(t *testing.T) {
	b := newBench(t, "", nil)
	system, rom := client("a"), dhcptest.Packet(t, "discover-pi3-rom")
	b.say(message(t, system, dhcpv4.MessageTypeDiscover))
	b.say(message(t, system, dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1")))
	first := b.say(rom)
	if len(first) != 1 {
		t.Fatalf("%v", first)
	}
	if err := os.RemoveAll(b.state); err != nil {
		t.Fatal(err)
	}
	for what, wait := range map[string]time.Duration{"renewed": time.Minute, "renewed late": 2 * testPool.Lease} {
		b.clock.Pass(wait)
		b.heard()
		renew := dhcptest.At(message(t, system, dhcpv4.MessageTypeRequest), 12, 10, 0, 0, 10)
		if got := b.say(renew); len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeAck {
			t.Errorf("%s: %v", what, got)
		}
		if got := b.say(rom); len(got) != 1 || !got[0].YourIPAddr.Equal(first[0].YourIPAddr) {
			t.Errorf("a Pi 3 that boots again, %s: %v", what, got)
		}
	}
}
