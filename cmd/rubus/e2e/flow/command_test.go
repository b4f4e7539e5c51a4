package flow

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"rubus/cmd/internal/control"
)

// narrow fails the test when a line of a table is wider than a terminal.
func narrow(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%s prints a line of %d characters:\n%s", what, n, text)
			return
		}
	}
}

// has fails the test unless a text holds all words.
func has(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in\n%s", what, w, text)
		}
	}
}

// The verbs about boards and images, with a daemon and a board that runs.
func TestCommandsOfBoards(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	s.devices(deviceLines(
		"serial: "+serialA+", name: a-name-that-is-rather-long-for-a-table-of-boards-in-a-rack",
		"serial: "+serialB+", name: bee, cmdline: [quiet, loglevel=3]", "serial: "+serialC+", enabled: false"))
	s.refuses(1, []string{"not running", "rubus: hint: "}, "status")
	if out := s.rubus("status", "--json"); out.code != 1 || !strings.Contains(out.stdout, `"running": false`) {
		t.Errorf("status --json without a daemon: exit code %d, %s", out.code, out.stdout)
	}
	d := s.serve()
	a := s.newBoard("4b", serialA, macA)
	a.boot("10.77.0.20")
	s.refuses(1, []string{"nothing to commit", serialA + " has written nothing", "device diff"}, "device", "commit", serialA, "lab")
	s.refuses(1, []string{"nothing to commit", "it never booted"}, "device", "commit", serialB, "lab")
	must(t, a.write("etc/mine", "written by A"))
	s.must("image", "import", "lab", tinyRoot(t, s.dir, "2"))

	// Tables fit a terminal; JSON has it all.
	out := s.must("status")
	narrow(t, "status", out)
	has(t, "status", out, serialA, "running", "10.77.0.20", "lab@1 (lab@2 available)", serialC, "disabled")
	var st control.Status
	must(t, json.Unmarshal([]byte(s.must("status", "--json")), &st))
	if len(st.Boards) != 3 || st.Boards[0].Phase != "running" || st.Boards[0].Running.String() != "lab@1" ||
		st.Boards[0].Available.String() != "lab@2" || st.Boards[0].Address.String() != "10.77.0.20" || !st.Running {
		t.Errorf("status --json: %+v", st)
	}
	out = s.must("device", "show", serialA)
	narrow(t, "device show", out)
	has(t, "device show", out, "image", "running", "/"+serialA+"/1", macA, "devices.yaml:2")
	has(t, "device show by name", s.must("device", "show", "bee"), serialB, "loglevel=3")
	var show struct{ Device, Board map[string]any }
	must(t, json.Unmarshal([]byte(s.must("device", "show", serialA, "--json")), &show))
	if show.Device["serial"] != serialA || show.Board["phase"] != "running" {
		t.Errorf("device show --json: %+v", show)
	}
	for _, args := range [][]string{{"device", "list"}, {"image", "list"}} {
		narrow(t, strings.Join(args, " "), s.must(args...))
	}

	// What a running board stands on is not taken from it.
	s.refuses(1, []string{"is up", "--force"}, "device", "reset", serialA, "--yes")
	s.refuses(1, []string{"lab@1", serialA}, "image", "rm", "lab@1", "--yes")
	s.refuses(2, []string{"--yes"}, "device", "stop", serialA)
	s.refuses(2, []string{"--yes"}, "device", "reset", serialA, "--force")
	must(t, a.has("etc/mine", "written by A"))

	// stop cuts it off and keeps what it wrote.
	from := d.End()
	s.must("device", "stop", serialA, "--yes")
	must(t, d.Said(from, "msg=control", "verb=stop", "uid=0", "serial="+serialA))
	if _, err := a.read("etc/mine"); err == nil {
		t.Error("a board that was cut off still reads its root")
	}
	if b := s.board(serialA); b.Phase != "stopped" || b.Up != "no" {
		t.Errorf("after stop the board is %s, up %s", b.Phase, b.Up)
	}
	s.refuses(1, []string{"lab@1", serialA}, "image", "rm", "lab@1", "--yes")
	a.off()
	a.boot("10.77.0.20")
	must(t, a.has("etc/mine", "written by A"))
	must(t, a.has("etc/version", "1\n"))

	// reset --force shows what goes, and the next boot is the image's.
	from = d.End()
	forced := s.rubus("device", "reset", serialA, "--force", "--yes")
	if forced.code != 0 {
		t.Fatalf("device reset --force: exit code %d\n%s", forced.code, forced.stderr)
	}
	table, _, _ := strings.Cut(forced.stderr, "rubus: ")
	narrow(t, "device reset", table)
	has(t, "device reset", forced.stderr, "lab@1", "current", "is reset", "lab@2")
	must(t, d.Said(from, "msg=control", "verb=reset", "uid=0", "serial="+serialA))
	a.off()
	a.boot("10.77.0.20")
	must(t, a.has("etc/version", "2\n"))
	if text, err := a.read("etc/mine"); err == nil {
		t.Errorf("after a reset the board still has its file: %q", text)
	}
	// What the reset took away is kept for a while, with what it stands on.
	s.refuses(1, []string{"lab@1", "snapshot 1"}, "image", "rm", "lab@1", "--yes")
	s.must("device", "snapshots", serialA, "--remove", "1", "--yes")
	s.must("image", "rm", "lab@1", "--yes")
	s.refuses(1, []string{"lab@2", serialA}, "image", "rm", "lab", "--yes")
}

// A wrong command line is exit code 2, what cannot be done is 1.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.serve()
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{2, []string{"statsu"}, []string{"statsu"}},
		{2, []string{"SERIAL"}, []string{"device", "stop"}},
		{2, []string{"--wrong"}, []string{"status", "--wrong"}},
		{2, []string{"device"}, []string{"device"}},
		{1, []string{"b9999999"}, []string{"device", "stop", "b9999999", "--yes"}},
		{1, []string{"b9999999"}, []string{"device", "show", "b9999999"}},
		{1, []string{"nobody"}, []string{"device", "reset", "nobody"}},
		{1, []string{"missing"}, []string{"image", "show", "missing"}},
		{1, []string{"running already", "lock"}, []string{"serve"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			in := *s
			in.t = t
			in.refuses(c.code, c.words, c.args...)
		})
	}
	has(t, "reset of a board without writes", s.rubus("device", "reset", serialA, "--yes").stderr, "no writes")
}

// The control socket is for root and one group; the log names who changed what.
func TestControlSocket(t *testing.T) {
	t.Parallel()
	g, err := user.LookupGroup("daemon") // there on any Debian
	must(t, err)
	gid, err := strconv.Atoi(g.Gid)
	must(t, err)
	s := newSite(t)
	s.useTiny()
	s.write("rubus.yaml", "control: {group: daemon}\n")
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	d := s.serve()
	fi, err := os.Stat(filepath.Join(s.dir, "run/control.sock"))
	must(t, err)
	if st := fi.Sys().(*syscall.Stat_t); fi.Mode().Perm() != 0o660 || st.Uid != 0 || int(st.Gid) != gid {
		t.Errorf("the socket is %v of %d:%d, not rw-rw---- of 0:%d", fi.Mode().Perm(), st.Uid, st.Gid, gid)
	}

	const uid = 4242
	as := func(gid int, args ...string) output {
		args = append([]string{
			fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups", shared.Rubus,
		}, args...)
		return s.command(s.host.command(t.Context(), "setpriv", args...))
	}
	if out := as(gid, "status"); out.code != 0 || !strings.Contains(out.stdout, serialA) {
		t.Errorf("a member of the group asks for the status: exit code %d\n%s", out.code, out.stderr)
	}
	from := d.End()
	if out := as(gid, "reload"); out.code != 0 {
		t.Errorf("a member of the group reloads: exit code %d\n%s", out.code, out.stderr)
	}
	must(t, d.Said(from, "msg=control", "verb=reload", fmt.Sprintf("uid=%d", uid)))
	if out := as(uid, "reload"); out.code != 1 || !strings.Contains(out.stderr, "rubus: hint: ") {
		t.Errorf("a stranger reloads: exit code %d\n%s", out.code, out.stderr)
	}

	d.Stop()
	if _, err := os.Stat(filepath.Join(s.dir, "run/control.sock")); err == nil {
		t.Error("a daemon that ended leaves its socket")
	}
}
