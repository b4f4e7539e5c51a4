package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"rubus/cmd/internal/control"
	"rubus/cmd/rubus/e2e/harness"
)

// What a board's NFS does is counted by procedure, and slow calls are logged:
// its own only, and nobody else's.
func TestFigures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.write("rubus.yaml", "nfs: {slow_call: 1ns}\n")
	d := s.serve()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.status().PID))
	must(t, err)
	has(t, "the daemon's status", string(status), "Umask:\t0000\n")
	a, b := s.newBoard("4b", serialA, macA), s.newBoard("4b", serialB, macB)
	a.boot("10.77.0.20")
	b.boot("10.77.0.21")
	must(t, a.write("etc/mine", "written by A"))
	must(t, a.has("etc/mine", "written by A"))
	if _, err := a.read("etc/not-there"); err == nil {
		t.Error("a file that is not there is read")
	}

	var show struct{ Board control.Board }
	must(t, json.Unmarshal([]byte(s.must("device", "show", serialA, "--json")), &show))
	seen := map[string]control.Procedure{}
	for i, p := range show.Board.NFS {
		seen[p.Name] = p
		if p.Calls == 0 || p.P50 <= 0 || p.P50 > p.P99 || p.Worst <= 0 || (i > 0 && p.Calls > show.Board.NFS[i-1].Calls) {
			t.Errorf("figures out of order: %+v", show.Board.NFS)
		}
	}
	if seen["WRITE"].Calls == 0 || seen["CREATE"].Calls == 0 || seen["READ"].Calls == 0 || seen["LOOKUP"].Errors == 0 {
		t.Errorf("a board wrote, read and looked in vain: %+v", show.Board.NFS)
	}
	text := s.must("device", "show", serialA)
	narrow(t, "device show", text)
	has(t, "device show", text, "NFS CALL", "WRITE", "P99", "written")
	// The list of all boards is short.
	for _, x := range s.status().Boards {
		if x.NFS != nil {
			t.Errorf("the status of %s has procedures", x.Serial)
		}
	}
	// B was read from by its own board only.
	must(t, json.Unmarshal([]byte(s.must("device", "show", serialB, "--json")), &show))
	for _, p := range show.Board.NFS {
		if p.Name == "WRITE" {
			t.Errorf("B did not write: %+v", show.Board.NFS)
		}
	}
	harness.Until(t, 10*time.Second, "slow calls are in the log", func() error {
		return errors.Join(d.Said(0, "a slow NFS call", "serial="+serialA, "procedure=WRITE", "result=OK"),
			d.Said(0, "a slow NFS call", "serial="+serialA, "procedure=LOOKUP", "result=NOENT"))
	})
}
