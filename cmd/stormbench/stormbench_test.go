package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	o := &options{out: &table, dir: at("storm"), recording: at("recording"), rubus: at("rubus"), state: at("state"), model: "4b", boards: []int{1, 5}}
	if err := compare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[3], "| 5 | rubus | ") {
		t.Errorf("%s", &table)
	}
}
