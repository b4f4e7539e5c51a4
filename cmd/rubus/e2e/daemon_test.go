package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/record"
	"rubus/cmd/internal/control"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// daemon is a lab's "rubus serve".
type daemon struct {
	*harness.Daemon
	l *lab
}

// serve starts rubus on the lab's network. settings are lines of rubus.yaml.
func (l *lab) serve(settings ...string) *daemon {
	l.t.Helper()
	return l.serveBy(shared.Rubus, settings...)
}

// serveBy is serve by another rubus than that with the race detector.
func (l *lab) serveBy(rubus string, settings ...string) *daemon {
	l.t.Helper()
	lines := append([]string{"listen: [" + l.bridge + "]", "control: {group: root}"}, settings...)
	l.writeConfig("rubus.yaml", strings.Join(lines, "\n")+"\n")
	l.daemon = &daemon{l: l, Daemon: harness.NewDaemon(l.t, harness.Log(filepath.Join(l.dir, "rubus.log")), func() *exec.Cmd {
		return exec.Command(rubus, "serve", "--state", l.state(), "--run", l.dir+"/run",
			"--devices", l.dir+"/devices.yaml", "--config", l.dir+"/rubus.yaml")
	})}
	l.daemon.Start()
	return l.daemon
}

// ask is a client of the daemon's control socket.
func (d *daemon) ask() *control.Client { return control.NewClient(d.l.dir + "/run/control.sock") }

// record is a board's device.json.
func (l *lab) record(s device.Serial) record.Record {
	l.t.Helper()
	r, err := harness.Record(l.state(), s)
	must(l.t, err)
	return r
}

// slot is the newest slot of a board in a state.
func (l *lab) slot(s device.Serial, state record.SlotState) record.Slot {
	l.t.Helper()
	r := l.record(s)
	for i := len(r.Slots) - 1; i >= 0; i-- {
		if r.Slots[i].State == state {
			return r.Slots[i]
		}
	}
	l.t.Fatalf("board %s has no %s root: %+v", s, state, r.Slots)
	return record.Slot{}
}

// root and upper are where a board's slot is on the server.
func (l *lab) root(s device.Serial, slot record.Slot) string {
	return filepath.Join(l.state(), "roots", s.String(), fmt.Sprint(slot.N))
}

func (l *lab) upper(s device.Serial, slot record.Slot) string {
	return filepath.Join(l.state(), "devices", s.String(), "uppers", fmt.Sprintf("%s.%d", slot.Base.ID, slot.N), "upper")
}

// mountID is the number of the mount at a path.
func mountID(t *testing.T, path string) int {
	t.Helper()
	points, err := harness.MountPoints(filepath.Dir(path))
	must(t, err)
	for _, p := range points {
		if p.Mountpoint == path {
			return p.ID
		}
	}
	t.Fatalf("nothing is mounted at %q", path)
	return 0
}
