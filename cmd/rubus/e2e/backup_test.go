package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot/record"
)

// TestBackupOfARunningBoard: a board whose kernel writes is backed up twice, and its
// programs see nothing but a wait. What was acknowledged before is in the backup: the
// board boots from it.
func TestBackupOfARunningBoard(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	tree := goldenTree(t, t.TempDir())
	l.image("lab", tree, nil)
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n")
	l.serve()
	b := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	m := b.boot()
	w := m.startWriter("home")
	m.all("echo before >/mnt/root/srv/mine; sync")
	nas := filepath.Join(l.dir, "nas")
	must(t, os.Mkdir(nas, 0o755))
	var sizes []int64
	var before uint64
	for range 2 {
		before = w.acks()
		out, err := l.rubus("backup", "--to", nas, "--json")
		if err != nil {
			t.Fatalf("rubus backup: %v\n%s", err, out)
		}
		var said struct {
			Size   int64 `json:"size"`
			Boards []struct {
				Held   time.Duration `json:"held_ns"`
				Failed string        `json:"failed"`
			} `json:"boards"`
		}
		must(t, json.Unmarshal([]byte(out), &said))
		if len(said.Boards) != 1 || said.Boards[0].Failed != "" || said.Boards[0].Held > 5*time.Minute {
			t.Errorf("the backup says %s", out)
		}
		sizes = append(sizes, said.Size)
		w.goesOn(time.Minute)
	}
	if after := w.end(); after <= before {
		t.Errorf("the writer was not past %d", before)
	}
	m.all("echo after >/mnt/root/srv/mine; sync")
	if out, err := l.rubus("restore", nas, "--yes"); err == nil || !strings.Contains(err.Error(), "is up") {
		t.Errorf("restored under a running board: %v\n%s", err, out)
	}
	m.want("cat /mnt/root/srv/mine", "after")
	former := l.slot(b.serial, record.SlotCurrent)
	m.cut()
	if out, err := l.rubus("restore", nas, "--yes", "--force"); err != nil {
		t.Fatalf("rubus restore: %v\n%s", err, out)
	}
	m = b.boot()
	m.want("cat /mnt/root/srv/mine", "before")
	m.all(fmt.Sprintf("%s check /mnt/root/home %d", shared.writer, before))
	if now := l.slot(b.serial, record.SlotCurrent); now.Export == former.Export {
		t.Error("handles of the former root are good for the restored one")
	}
	t.Logf("%d records before the second backup; files of %d bytes", before, sizes)
}

// rubus runs the command beside the daemon; its error has what it said.
func (l *lab) rubus(args ...string) (string, error) {
	cmd := exec.CommandContext(l.t.Context(), shared.Rubus, append(args, "--state", l.state(), "--run", l.dir+"/run",
		"--devices", l.dir+"/devices.yaml", "--config", l.dir+"/rubus.yaml")...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	return string(out), err
}
