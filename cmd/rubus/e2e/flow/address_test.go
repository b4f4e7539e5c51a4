package flow

import (
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

// The server's interface gets another address while the daemon runs: the next
// boot has it, and a board from before goes on when the old one is back.
func TestServerAddressChanges(t *testing.T) {
	t.Parallel()
	const newAddr, foreign = "10.77.0.9", "10.77.0.11"
	s := newSite(t)
	s.useTiny()
	s.write("rubus.yaml", "listen: ["+bridge+"]\n")
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.router(onePool)
	d := s.serve()
	before := s.newBoard("3b", serialA, macA)
	before.boot("10.77.0.20")
	must(t, before.write("before", "kept"))

	// The last address of an interface goes, and only then the next one comes:
	// as a secondary one it would go with the primary.
	end := d.End()
	s.host.run(t, "ip", "addr", "del", hostAddr+"/24", "dev", bridge)
	s.host.run(t, "ip", "addr", "add", newAddr+"/24", "dev", bridge)
	harness.Until(t, 10*time.Second, "the new address is served", func() error {
		return d.Said(end, "listening on one more address", newAddr)
	})
	after := s.newBoard("4b", serialB, macB)
	if res := after.boot("10.77.0.21"); res.Server.String() != newAddr {
		t.Errorf("the new board's server is %s, not %s", res.Server, newAddr)
	}
	must(t, after.write("after", "kept"))
	must(t, after.has("after", "kept"))

	// The old one is back, beside the new one: no other word of it, since its
	// ports never closed.
	end = d.End()
	s.host.run(t, "ip", "addr", "add", hostAddr+"/24", "dev", bridge)
	must(t, before.write("since", "kept"))
	for _, name := range []string{"before", "since"} {
		must(t, before.has(name, "kept"))
	}
	again, err := before.mount(hostAddr, "/"+serialA) // a new connection
	must(t, err)
	again.Close()

	// A port that another program has there is named once, and taken when that
	// program is gone and something changes. It is there before the address.
	thief := s.listenAt(foreign, "tcp", 2049)
	s.host.run(t, "ip", "addr", "add", foreign+"/24", "dev", bridge)
	harness.Until(t, 10*time.Second, "the port's holder is named", func() error {
		return d.Said(end, "cannot listen", foreign, "2049/tcp", "is held by")
	})
	must(t, thief.Close())
	s.host.run(t, "ip", "link", "add", "other0", "type", "bridge")
	harness.Until(t, 10*time.Second, "the port is taken", func() error {
		return d.Said(end, "listening on one more address", foreign)
	})
	if err := d.Said(end, "listening on one more address", hostAddr+" "); err == nil {
		t.Error("the old address was opened twice")
	}
	must(t, after.has("after", "kept"))
}
