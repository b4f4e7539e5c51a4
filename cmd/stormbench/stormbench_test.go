package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsreplay"
	"rubus/nfsexport/xdr"
)

// The boards are this program, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "play" {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lookup, for a recording of two calls: what /etc/motd is, and its bytes.
func lookup(name string) []byte {
	var w xdr.Writer
	w.String(name)
	return w.Buf
}

// TestStorm has a few boards boot from rubus, from a small image and with a short
// recording. How fast is for scripts/bench to say.
func TestStorm(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"root/boot/firmware/start4.elf": "start4", "root/boot/firmware/fixup4.dat": "fixup4", "root/boot/firmware/kernel8.img": "kernel",
		"root/boot/firmware/config.txt": "arm_64bit=1\n", "root/boot/firmware/cmdline.txt": "console=ttyS1\n",
		"root/boot/firmware/bcm2711-rpi-4-b.dtb": "brcm,bcm2711", "root/etc/motd": "welcome\n", "root/sbin/init": "#!/bin/sh\n",
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"go", "build", "-o", at("rubus"), "rubus/cmd/rubus"},
		{at("rubus"), "--state", at("state"), "--config", at("none"), "--devices", at("none"), "--run", at("none"), "image", "import", "lab", at("root")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	var read xdr.Writer
	read.Uint64(0)
	read.Uint32(4096)
	rec := nfsreplay.Recording{
		Nodes: []nfsreplay.Node{{Parent: -1}, {Parent: 0, Name: "etc"}, {Parent: 1, Name: "motd"}}, Creds: []nfsreplay.Cred{{}},
		Calls: []nfsreplay.Call{
			{Proc: nfs3.ProcLookup, Args: lookup("etc"), File2: -1, From: -1, Made: []int{1}},
			{Await: []int{0}, Proc: nfs3.ProcLookup, File: 1, Args: lookup("motd"), File2: -1, From: -1, Made: []int{2}},
			{Await: []int{1}, Proc: nfs3.ProcRead, File: 2, Args: read.Buf, File2: -1, From: -1},
		},
	}
	f, err := os.Create(at("recording"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Write(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	o := &options{out: &table, dir: at("storm"), recording: at("recording"), rubus: at("rubus"), state: at("state"), model: "4b", boards: []int{1, 5}, after: time.Millisecond}
	if err := compare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[2], "| none yet | rubus |") || !strings.HasPrefix(lines[4], "| 5 | rubus | ") || !strings.HasPrefix(lines[5], "| gone for 1ms | rubus |") {
		t.Errorf("%s", &table)
	}
	table.Reset()
	o.prepare, o.dir = 3, at("prepare")
	if err := prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if text := table.String(); !strings.Contains(text, "\n| 3 | ") || !strings.Contains(text, "3 boards: seconds until they have roots") {
		t.Error(text)
	}
}

// TestSum: of the boards of a storm the one in the middle and the slowest are told, and a part of
// the server's time for each.
func TestSum(t *testing.T) {
	board := func(firmware, nfs time.Duration, differ int) booted {
		return booted{Firmware: firmware, NFS: nfs, Bytes: 20, Retries: 1, Replay: nfsreplay.Result{Calls: 30, Differ: differ, First: []string{"one"}[:differ]}}
	}
	var got storm
	if err := got.sum([]booted{board(5, 1, 0), board(1, 70, 1), board(2, 2, 0), board(3, 9, 0), board(4, 4, 0)}, 500); err != nil {
		t.Fatal(err)
	}
	want := storm{boards: 5, median: 8, slowest: 71, firmware: 3, nfs: 4, cpu: 100, bytes: 20, retries: 5, calls: 30, differ: 1, first: []string{"one"}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(storm{}, used{})); d != "" {
		t.Error(d)
	}
	if err := got.sum([]booted{board(1, 1, 0), {Error: "no answer"}}, 1); err == nil {
		t.Error("a board that did not boot is none too slow")
	}
}

// TestGoals: what is within its bound is met, and a small storm is held against none.
func TestGoals(t *testing.T) {
	var g goals
	g.storm(storm{boards: 20, cpu: time.Hour})
	g.storm(storm{boards: 100, cpu: 290 * time.Millisecond, share: 2.5, after: used{rss: 150 << 20}})
	var out strings.Builder
	g.print(&out)
	want := `
| goal                                         |    most |      is |        |
|---|--:|--:|---|
| 100 boards: CPU seconds of each boot         |    0.30 |    0.29 | met    |
| 100 boards: the slowest, of its fair share   |    2.00 |    2.50 | missed |
| 100 boards: MB of memory                     |  200.00 |  150.00 | met    |

2 of 3 goals met.
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
