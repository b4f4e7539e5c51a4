package flow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/cmd/internal/control"
)

// A board dies, and one that was never seen takes its place: it has what the dead one wrote,
// its snapshots, and its entry with the comments. The dead one comes back to life and is
// refused by DHCP, TFTP and NFS, although strangers boot here.
func TestReplaceDeadBoard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	const entry = `version: 1
# strangers are welcome
unknown: {boot: lab}
devices:
  # the one by the window
  - serial: b8a00001 # bought in May
    name: bench-01
    image: lab
`
	s.devices(entry)
	d := s.serve()
	a, b, c := s.newBoard("4b", serialA, macA), s.newBoard("4b", serialB, macB), s.newBoard("4b", serialC, macC)
	path := nfsroot.FindStringSubmatch(a.boot("10.77.0.20").Cmdline)[2]
	must(t, a.write("etc/mine", "written by A"))
	s.must("device", "snapshot", "bench-01", "--note", "kept")
	s.refuses(1, []string{"is up"}, "device", "replace", "bench-01", serialB, "--yes")
	must(t, a.has("etc/mine", "written by A"))
	a.off()
	s.must("device", "stop", serialA, "--yes")
	s.must("device", "replace", "bench-01", serialB, "--yes")
	// As after a crash in between: the name is that of the new board by now.
	s.must("device", "replace", serialA, serialB, "--yes")
	text, err := os.ReadFile(filepath.Join(s.dir, "devices.yaml"))
	must(t, err)
	if want := strings.Replace(entry, serialA, serialB, 1); string(text) != want {
		t.Errorf("devices.yaml is\n%s, want\n%s", text, want)
	}
	s.listed(serialB)

	refused := func() {
		t.Helper()
		a.notServed()
		a.net = newNetns(t)
		s.plug(a.net, a.port, a.mac.String(), "10.77.0.20")
		defer a.off()
		for _, name := range []string{serialA + "/config.txt", serialB + "/config.txt", "config.txt"} {
			if answer, err := askTFTP(a.net, "\x00\x01"+name+"\x00octet\x00"); err != nil || strings.HasPrefix(answer, "\x00\x03") {
				t.Errorf("the old board is given %q: %q, %v", name, answer, err)
			}
		}
		for _, p := range []string{path, strings.Replace(path, serialA, serialB, 1)} {
			if root, err := a.mount(hostAddr, p); err == nil {
				root.Close()
				t.Errorf("the old board mounts %q", p)
			}
		}
	}
	refused()
	b.boot("10.77.0.21")
	must(t, b.has("etc/mine", "written by A"))
	var kept []control.Snapshot
	must(t, json.Unmarshal([]byte(s.must("device", "snapshots", serialB, "--json")), &kept))
	if len(kept) != 1 || kept[0].Note != "kept" {
		t.Errorf("the new board has the snapshots %+v", kept)
	}
	c.boot("10.77.0.22") // a stranger
	d.Kill()
	d.Start()
	refused()
}
