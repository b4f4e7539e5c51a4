package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rubus/boot/fakepi/child"
	"rubus/boot/record"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

// daemon is a "rubus serve" and what it says.
type daemon struct {
	l    *lab
	p    *child.Process
	log  string
	from int // where in the log its present run begins
}

// serve starts rubus on the lab's network. settings are lines of rubus.yaml.
func (l *lab) serve(settings ...string) *daemon {
	l.t.Helper()
	d := &daemon{l: l, log: filepath.Join(l.dir, "rubus.log")}
	l.daemon = d
	lines := append([]string{"listen: [" + l.bridge + "]", "control: {group: root}"}, settings...)
	l.writeConfig("rubus.yaml", strings.Join(lines, "\n")+"\n")
	l.t.Cleanup(func() {
		d.stop()
		if text := d.text(0); l.t.Failed() {
			l.t.Logf("the daemon's log:\n%s", lastLines(text, 60))
		} else if i := strings.Index(text, "DATA RACE"); i >= 0 {
			l.t.Errorf("the daemon has a race:\n%s", text[i:])
		}
	})
	d.start()
	return d
}

// launch starts the daemon.
func (d *daemon) launch() {
	d.l.t.Helper()
	f, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(d.l.t, err)
	defer f.Close()
	d.from = len(d.text(0))
	cmd := exec.Command(shared.rubus, "serve", "--state", d.l.state(), "--run", d.l.dir+"/run",
		"--devices", d.l.dir+"/devices.yaml", "--config", d.l.dir+"/rubus.yaml")
	cmd.Stdout, cmd.Stderr = f, f
	d.p, err = child.Start(cmd)
	must(d.l.t, err)
}

// start starts the daemon and waits until it serves.
func (d *daemon) start() {
	d.l.t.Helper()
	d.launch()
	d.l.until(30*time.Second, "rubus serves", func() error {
		select {
		case <-d.p.Done():
			d.l.t.Fatalf("rubus ended: %v\n%s", d.p.Err(), d.text(d.from))
		default:
		}
		return d.said(d.from, "msg=serving")
	})
}

// kill is kill -9.
func (d *daemon) kill() {
	d.l.t.Helper()
	must(d.l.t, d.p.Signal(syscall.SIGKILL))
	<-d.p.Done()
}

// stop ends the daemon as systemd does; it must end well.
func (d *daemon) stop() {
	d.l.t.Helper()
	select {
	case <-d.p.Done():
		return
	default:
	}
	d.p.Stop(90 * time.Second) // systemd's own patience
	if err := d.p.Err(); err != nil {
		d.l.t.Errorf("rubus did not end cleanly: %v", err)
	}
}

// alive fails the test when the daemon has ended.
func (d *daemon) alive() {
	d.l.t.Helper()
	select {
	case <-d.p.Done():
		d.l.t.Fatalf("rubus ended: %v\n%s", d.p.Err(), lastLines(d.text(d.from), 40))
	default:
	}
}

// text is the log from an offset on.
func (d *daemon) text(from int) string {
	b, _ := os.ReadFile(d.log) // not there yet: empty
	return string(b[min(from, len(b)):])
}

// said is an error while no line of the log from an offset on has all words.
func (d *daemon) said(from int, words ...string) error {
	for line := range strings.Lines(d.text(from)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("the log has no line with %q", words)
}

// ask is a client of the daemon's control socket.
func (d *daemon) ask() *control.Client { return control.NewClient(d.l.dir + "/run/control.sock") }

// record is a board's device.json.
func (l *lab) record(s device.Serial) record.Record {
	l.t.Helper()
	r, err := readRecord(l.state(), s)
	must(l.t, err)
	return r
}

func readRecord(state string, s device.Serial) (r record.Record, err error) {
	b, err := os.ReadFile(filepath.Join(state, "devices", s.String(), "device.json"))
	if err != nil {
		return r, err
	}
	return r, json.NewDecoder(bytes.NewReader(b)).Decode(&r)
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
	points, err := mountPoints(filepath.Dir(path))
	must(t, err)
	for _, p := range points {
		if p.Mountpoint == path {
			return p.ID
		}
	}
	t.Fatalf("nothing is mounted at %q", path)
	return 0
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
