package flow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

const (
	serialA, macA = "b8a00001", "b8:27:eb:a0:00:01"
	serialB, macB = "b8b00002", "dc:a6:32:b0:00:02"
	serialC, macC = "b8c00003", "dc:a6:32:c0:00:03"
)

// deviceLines is a devices.yaml with a line for each board.
func deviceLines(lines ...string) string {
	text := "version: 1\ndefaults: {image: lab}\ndevices:\n"
	for _, l := range lines {
		text += "  - {" + l + "}\n"
	}
	return text
}

// listed waits until the daemon has devices for these boards and no others.
func (s *site) listed(serials ...string) {
	s.t.Helper()
	want := strings.Join(serials, " ")
	harness.Until(s.t, 10*time.Second, "the devices are "+want, func() error {
		var have []string
		for _, b := range s.status().Boards {
			if b.Listed {
				have = append(have, b.Serial.String())
			}
		}
		if got := strings.Join(have, " "); got != want {
			return fmt.Errorf("they are %q", got)
		}
		return nil
	})
}

// refused waits until the daemon says why the files are not in force.
func (s *site) refused(words ...string) {
	s.t.Helper()
	harness.Until(s.t, 10*time.Second, "the edit is refused", func() error {
		why := s.status().Refused
		for _, w := range words {
			if !strings.Contains(why, w) {
				return fmt.Errorf("the status says %q, without %q", why, w)
			}
		}
		return nil
	})
}

// devices.yaml is edited, as editors do, while boards boot and run.
func TestEditWhileServing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialC))
	d := s.serve()
	a, b := s.newBoard("3b", serialA, macA), s.newBoard("4b", serialB, macB)
	a.boot("10.77.0.20")
	must(t, a.write("etc/mine", "written by A"))

	// A board without an entry is listed, and not served.
	b.notServed()
	if u := s.status().Unknown; len(u) != 1 || u[0].Serial.String() != serialB || u[0].MAC.String() != macB {
		t.Errorf("the status lists as unknown %+v; it should be board %s", u, serialB)
	}
	if out := s.must("status"); !strings.Contains(out, serialB) || !strings.Contains(out, macB) {
		t.Errorf("rubus status does not show the unknown board:\n%s", out)
	}

	// An added board boots.
	good := deviceLines("serial: "+serialA, "serial: "+serialB, "serial: "+serialC)
	s.devices(good)
	s.listed(serialA, serialB, serialC)
	b.fetch()
	if u := s.status().Unknown; len(u) != 0 {
		t.Errorf("the status still lists as unknown %+v", u)
	}

	// A broken edit is refused, with all its problems, and changes nothing.
	s.devices(strings.Replace(good, "serial: "+serialC, "serial: "+serialC+", adress: 10.0.0.1, image: 'no good'", 1))
	s.refused("devices.yaml:6:", "adress", "no good")
	s.listed(serialA, serialB, serialC)
	out := s.rubus("status")
	if out.code != 0 || !strings.Contains(out.stderr, "devices.yaml:6:") || !strings.Contains(out.stderr, "adress") {
		t.Errorf("rubus status does not say why the file is refused (exit code %d):\n%s", out.code, out.stderr)
	}
	s.refuses(1, []string{"2 problems"}, "check")
	s.refuses(1, []string{"devices.yaml:6:"}, "reload")
	b.fetch()
	must(t, a.has("etc/mine", "written by A"))

	// SIGHUP reads the file, too.
	from := d.End()
	d.Signal(syscall.SIGHUP)
	harness.Until(t, 10*time.Second, "SIGHUP", func() error { return d.Said(from, "level=ERROR", "why=SIGHUP", "adress") })

	// So is a file that loses most devices, until somebody says that it is meant.
	s.devices(deviceLines("serial: " + serialB))
	s.refused("devices")
	s.refuses(1, []string{"reload --yes"}, "reload")
	s.devices("")
	s.refused("no device")
	s.listed(serialA, serialB, serialC)
	s.must("reload", "--yes")
	s.listed()
	if why := s.status().Refused; why != "" {
		t.Errorf("the status says %q although the file is in force", why)
	}
	b.notServed()
	must(t, a.has("etc/mine", "written by A"))
	s.devices(good)
	s.listed(serialA, serialB, serialC)
	b.fetch()

	// Handles are good for one NFS server: no other while a board is up.
	s.write("rubus.yaml", "nfs: {backend: kernel, accept_unauthenticated_handles: true}\n")
	s.refused("nfs.backend: kernel is refused while boards are up", serialA)
	s.refuses(1, []string{"nfs.backend: kernel is refused", serialA, "shut them down first"}, "reload")
	must(t, a.has("etc/mine", "written by A"))
	b.fetch()
	must(t, os.Remove(filepath.Join(s.dir, "rubus.yaml")))
	s.must("reload")
	if why := s.status().Refused; why != "" {
		t.Errorf("the status says %q although the file is in force", why)
	}
}

// A removed board keeps its root until it is down; it gets no new boot; its
// writes are there when it is added again.
func TestRemoveRunningBoard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	both := deviceLines("serial: "+serialA, "serial: "+serialB)
	s.devices(both)
	s.serve()
	a := s.newBoard("4b", serialA, macA)
	a.boot("10.77.0.20")
	must(t, a.write("etc/mine", "written by A"))

	s.devices(deviceLines("serial: " + serialB))
	s.listed(serialB)
	// The board is looked after every 5 s: longer than the 30 s without a call
	// after which one that answers nothing is down.
	for range 8 {
		select {
		case <-time.After(5 * time.Second):
		case <-t.Context().Done():
			t.Fatal("interrupted")
		}
		if got := s.board(serialA); got.Listed || got.Phase != "running" || got.Path == "" {
			t.Fatalf("the removed board is listed %v, %s, with the root %q", got.Listed, got.Phase, got.Path)
		}
	}
	must(t, a.has("etc/mine", "written by A"))
	must(t, a.write("etc/more", "still here"))

	a.off()
	harness.Until(t, 4*time.Minute, "the board that is down is let go", func() error {
		if _, err := os.Stat(filepath.Join(s.root(serialA, 1), "etc/mine")); err == nil {
			return errors.New("its root is still mounted")
		}
		return nil
	})
	if r := s.record(serialA); r.Up || len(r.Slots) != 1 {
		t.Errorf("device.json says up %v with %d slots; the upper should be kept", r.Up, len(r.Slots))
	}
	a.notServed()

	s.devices(both)
	s.listed(serialA, serialB)
	a.boot("10.77.0.20")
	must(t, a.has("etc/mine", "written by A"))
	must(t, a.has("etc/more", "still here"))
}

// A start with a broken file uses the last valid one and says so. Without one
// it is an error that names file and line.
func TestStartWithBrokenFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	broken := deviceLines("serial: "+serialA, "seriall: "+serialB)
	s.devices(broken)
	s.refuses(1, []string{"devices.yaml:5:", "seriall"}, "serve")

	s.devices(deviceLines("serial: " + serialA))
	d := s.serve()
	d.Stop()
	s.devices(broken)
	d.Start()
	must(t, d.Said(d.From, "level=ERROR", "last valid", "devices.yaml:5", "seriall"))
	s.refused("devices.yaml:5:", "seriall")
	s.listed(serialA)
	s.newBoard("4b", serialA, macA).boot("10.77.0.20")

	// And it is mended without another start.
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.listed(serialA, serialB)
	if why := s.status().Refused; why != "" {
		t.Errorf("the status still says %q", why)
	}
}
