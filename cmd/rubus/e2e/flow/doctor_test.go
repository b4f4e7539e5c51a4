package flow

import (
	"encoding/json"
	"testing"

	"rubus/cmd/internal/doctor"
)

// worst gives the worst level of each check, and what was found there.
func worst(t *testing.T, text string) (map[string]doctor.Level, map[string]string) {
	t.Helper()
	var r struct {
		OK       bool
		Findings []doctor.Finding
	}
	must(t, json.Unmarshal([]byte(text), &r))
	rank := map[doctor.Level]int{doctor.OK: 0, doctor.Note: 1, doctor.Warning: 2, doctor.Failure: 3}
	levels, words := map[string]doctor.Level{}, map[string]string{}
	for _, f := range r.Findings {
		if old, ok := levels[f.Check]; !ok || rank[f.Level] > rank[old] {
			levels[f.Check], words[f.Check] = f.Level, f.What+" "+f.Do
		}
	}
	if r.OK == doctor.Failed(r.Findings) {
		t.Errorf("ok is %v, but the findings are %v", r.OK, levels)
	}
	return levels, words
}

// The doctor hears what boards hear: a good site, another boot server that the
// router names, and no DHCP server at all. It says whom each Pi would follow.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.devices(deviceLines("serial: " + serialA))
	s.write("rubus.yaml", "listen: ["+bridge+"]\nreserve: 1MiB\n")

	out := s.rubus("doctor", "--listen", "3s", "--json")
	levels, words := worst(t, out.stdout)
	if out.code != 1 || levels["dhcp"] != doctor.Failure {
		t.Errorf("without a DHCP server: exit code %d, %v\n%v", out.code, levels, words)
	}

	s.router(onePool)
	out = s.rubus("doctor", "--listen", "3s", "--json")
	levels, words = worst(t, out.stdout)
	if out.code != 0 || levels["dhcp"] != doctor.OK || levels["boot servers"] != doctor.OK || levels["ports"] != doctor.OK {
		t.Errorf("a good site: exit code %d, %v\n%v\n%s", out.code, levels, words, out.stderr)
	}
	has(t, "the DHCP server", words["dhcp"], routerAddr)

	// The daemon's own ports, and its own offers, are as they should be.
	s.serve()
	out = s.rubus("doctor", "--listen", "3s", "--json")
	if levels, words = worst(t, out.stdout); out.code != 0 || levels["ports"] != doctor.OK {
		t.Errorf("beside the daemon: exit code %d, %v\n%v", out.code, levels, words)
	}
	if u := s.status().Unknown; len(u) != 0 {
		t.Errorf("the board that the doctor makes up is listed: %+v", u)
	}

	s2 := newSite(t)
	s2.useTiny()
	s2.devices(deviceLines("serial: " + serialA))
	s2.write("rubus.yaml", "listen: ["+bridge+"]\nreserve: 1MiB\n")
	s2.router(append([]string{"--dhcp-option-force=66," + routerAddr}, onePool...))
	out = s2.rubus("doctor", "--listen", "3s", "--json")
	levels, words = worst(t, out.stdout)
	if out.code != 1 || levels["boot servers"] != doctor.Failure {
		t.Errorf("the router names itself in option 66: exit code %d, %v\n%v", out.code, levels, words)
	}
	has(t, "the other boot server", words["boot servers"], routerAddr, "option 66", "remove option 66")
}
