package flow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rubus/boot/flight"
	"rubus/cmd/rubus/e2e/harness"
)

const (
	// itsBoots adds this boot to a file of the board, and prints all that it holds.
	itsBoots = `cat /proc/sys/kernel/random/boot_id >>/root/boots; sync; cat /root/boots; grep -o 'rubus.boot=[^ ]*' /proc/cmdline`
	// speaksUp has kernel and systemd say on the console how the system ends.
	speaksUp = `dmesg -n 7; env kill -54 1`
)

// rebooted wants a board that began with isRunning, itsHost and itsBoots, rebooted, and
// did so again, to have come up as the same host with what it wrote, in the root of a slot. QEMU
// ends with a reset (-no-reboot) and rubus simulate goes on with what the board's ROM does then:
// DHCP, TFTP of each file, and a new QEMU that boots what was fetched and mounts its root.
// Nothing of the first kernel is there any more.
func (s *site) rebooted(serial string, slot int, log string, first, second []string) {
	t := s.t
	t.Helper()
	if first[0] != "running" || second[0] != "running" {
		t.Errorf("the system says %q, and %q after a reboot", first[0], second[0])
	}
	if first[1] != second[1] {
		t.Errorf("rebooted, the board is another one: it was\n%s\nand is\n%s", first[1], second[1])
	}
	one, two := strings.Fields(first[2]), strings.Fields(second[2])
	if len(one) != 2 || len(two) != 3 || two[0] != one[0] || two[1] == one[0] || two[2] == one[1] {
		t.Fatalf("of its boots the board has written %q, and %q after a reboot", one, two)
	}
	if text, err := os.ReadFile(filepath.Join(s.root(serial, slot), "root/boots")); err != nil || !slices.Equal(strings.Fields(string(text)), two[:2]) {
		t.Errorf("on the server its boots are %q, not %q: %v", text, two[:2], err)
	}
	s.endsCleanly(log)

	// The server saw both from the first packet to the word that it is up.
	l := s.bootLog(serial)
	if len(l.Boots) != 2 {
		t.Fatalf("%d boots are recorded", len(l.Boots))
	}
	for _, b := range l.Boots {
		if b.Verdict.Rule != "good" {
			t.Errorf("the verdict on boot %d is %+v", b.N, b.Verdict)
		}
	}
	for _, kind := range []flight.Kind{flight.Discover, flight.File, flight.Mounted, flight.Good} {
		if !slices.ContainsFunc(l.Timeline.Events, func(e flight.Event) bool { return e.Kind == kind }) {
			t.Errorf("of the boot after the reboot nothing is recorded as %q", kind)
		}
	}
}

// endsCleanly wants a console to show a reboot, and then a power-off, by which nothing failed,
// nothing was waited for in vain, and what lies below the root was unmounted before the end.
func (s *site) endsCleanly(log string) {
	t := s.t
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, log))
	must(t, err)
	kernels := strings.Split(string(text), kernelBegins)
	if len(kernels) != 3 {
		t.Fatalf("%s has %d boots", log, len(kernels)-1)
	}
	for i, target := range []string{"reboot.target", "poweroff.target"} {
		_, end, _ := strings.Cut(kernels[i+1], "login:")
		for _, bad := range []string{"FAILED", "Failed", "failed", "A stop job is running", "imed out", "Forcibly", "Unable to", "not responding"} {
			if strings.Contains(end, bad) {
				t.Errorf("the end of the system says %q:\n%s", bad, harness.LastLines(end, 60))
			}
		}
		at := 0
		for _, step := range []string{"Unmounted", "boot-firmware.mount", "umount.target", target} {
			n := strings.Index(end[at:], step)
			if n < 0 {
				t.Fatalf("the end of the system has no %q where it belongs:\n%s", step, harness.LastLines(end, 60))
			}
			at += n
		}
	}
}
