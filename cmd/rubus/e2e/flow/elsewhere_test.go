package flow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// With "dhcp: {mode: off}" the site's own DHCP server, given the lines that rubus
// prints for it, sends every kind of board here.
func TestDHCPElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.devices(deviceLines("serial: "+serialA+", mac: "+macA, "serial: "+serialB+", mac: "+macB))
	s.write("rubus.yaml", "listen: ["+bridge+"]\ndhcp: {mode: off}\n")
	out := s.rubus("check", "--dhcp", "--json")
	var texts map[string]string
	if err := json.Unmarshal([]byte(out.stdout), &texts); err != nil || out.code != 0 {
		t.Fatalf("check --dhcp: exit code %d, %v\n%s", out.code, err, out.stderr)
	}
	file := filepath.Join(s.dir, "dnsmasq.conf")
	must(t, os.WriteFile(file, []byte(texts["dnsmasq"]), 0o644))
	s.router(append([]string{"--conf-file=" + file}, onePool...))
	s.serve()
	for _, b := range []*board{s.newBoard("3b", serialA, macA), s.newBoard("4b", serialB, macB)} {
		res := b.fetch()
		if res.Server.String() != hostAddr || res.Why != "option 66" {
			t.Errorf("a %s goes to %s (%s), not to %s", b.model, res.Server, res.Why, hostAddr)
		}
	}
}
