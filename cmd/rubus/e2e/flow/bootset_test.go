package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/child"
	"rubus/boot/flight"
	"rubus/cmd/internal/control"
	"rubus/cmd/rubus/e2e/harness"
)

const (
	oldRelease = "6.1.0-1-rubus"
	newRelease = "6.1.0-2-rubus"
)

// kernelFile is a kernel as far as a server can tell.
func kernelFile(release, text string) string {
	return strings.Repeat("machine code ", 4000) + "Linux version " + release + " (rubus@test) " + text
}

// heardPool is onePool of a DHCP server that answers by broadcast: a switch keeps
// what goes to the board alone from everybody else.
func heardPool() []string { return append([]string{"--dhcp-broadcast"}, onePool...) }

// useReporting gives the site an image whose kernel has modules, and which has
// the unit that reports a boot, and somewhere to write.
func (s *site) useReporting() {
	s.t.Helper()
	root := tinyRoot(s.t, s.dir, "1")
	for name, text := range map[string]string{
		"boot/firmware/vmlinuz":                                           kernelFile(oldRelease, "as imported"),
		"boot/firmware/initrd.img":                                        "no archive that is known",
		"lib/modules/" + oldRelease + "/modules.dep":                      "",
		"boot/firmware/bcm2712-rpi-5-b.dtb":                               "device tree of a 5",
		"var/lib/rubus/.keep":                                             "",
		"etc/systemd/system/multi-user.target.wants/rubus-booted.service": "",
	} {
		put(s.t, root, name, text)
	}
	s.must("image", "import", "lab", root)
}

// put writes a file below a root, on the server.
func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o755))
}

var bootWord = regexp.MustCompile(`rubus\.boot=([0-9a-f]+)`)

// reports is what the unit does at the end of a boot: it writes the id that the
// kernel's command line has.
func (b *board) reports(cmdline string) {
	b.s.t.Helper()
	m := bootWord.FindStringSubmatch(cmdline)
	if m == nil {
		b.s.t.Fatalf("no id of the boot in %q", cmdline)
	}
	must(b.s.t, b.write("var/lib/rubus/booted", m[1]+"\n"))
}

// bootsWell is a whole boot, and the power cut after it.
func (b *board) bootsWell() *fakepi.Result {
	b.s.t.Helper()
	res := b.boot("10.77.0.20")
	b.reports(res.Cmdline)
	b.s.waitPhase(30*time.Second, b.id, "good")
	b.off()
	return res
}

// log is what the daemon recorded of a board's latest boot.
func (s *site) bootLog(serial string) control.BootLog {
	s.t.Helper()
	l, err := s.client().Log(s.t.Context(), parseSerial(s.t, serial), 0)
	must(s.t, err)
	return l
}

// waitVerdict waits for the verdict on a board's latest boot.
func (s *site) waitVerdict(limit time.Duration, serial, rule string, words ...string) control.BootLog {
	s.t.Helper()
	var l control.BootLog
	harness.Until(s.t, limit, fmt.Sprintf("the verdict on board %s is %s", serial, rule), func() (err error) {
		// What was heard is recorded a moment later.
		if l, err = s.client().Log(s.t.Context(), parseSerial(s.t, serial), 0); err != nil {
			return err
		}
		if l.Verdict.Rule != rule {
			return fmt.Errorf("%s: %s", l.Verdict.Rule, l.Verdict.Text)
		}
		return nil
	})
	has(s.t, "the verdict", l.Verdict.Text, words...)
	return l
}

// Boot files that cannot work together are refused with the reason, and the board
// gets those of its last good boot; so it does when boots with changed files
// fail again and again.
func TestBootSets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useReporting()
	s.router(heardPool())
	s.devices(deviceLines("serial: " + serialB))
	s.serve()
	b := s.newBoard("4b", serialB, macB)
	firmware := filepath.Join(s.root(serialB, 1), "boot/firmware")
	gets := func(what, text string, lastGood bool, why string) *fakepi.Result {
		t.Helper()
		res := b.fetch()
		if string(res.Kernel.Data) != text {
			t.Errorf("%s: the board got another kernel, %q", what, harness.LastLines(string(res.Kernel.Data), 1))
		}
		if got := s.board(serialB).Boot; got.LastGood != lastGood || !strings.Contains(got.Why, why) {
			t.Errorf("%s: %+v", what, got)
		}
		return res
	}
	good := kernelFile(oldRelease, "as imported")
	b.bootsWell()
	l := s.waitVerdict(10*time.Second, serialB, "good", "user space after", "up after")
	kinds := map[flight.Kind]int{}
	for _, e := range l.Timeline.Events {
		kinds[e.Kind]++
		if e.Kind == flight.File && e.Name == "recovery.elf" && e.Outcome != flight.Expected {
			t.Errorf("recovery.elf is %s", e.Outcome)
		}
	}
	for _, k := range []flight.Kind{flight.Discover, flight.Offered, flight.Heard, flight.Prepared, flight.File, flight.Mounted, flight.Called, flight.Running, flight.Good} {
		if kinds[k] == 0 {
			t.Errorf("the record of the boot has no %s: %v", k, kinds)
		}
	}

	must(t, os.Remove(filepath.Join(firmware, "vmlinuz")))
	gets("no kernel", good, true, "the kernel of a Pi 4B, vmlinuz, is not there")
	has(t, "status", s.must("status"), "it got the boot files of its last good boot", "vmlinuz, is not there")

	put(t, firmware, "vmlinuz", kernelFile(newRelease, "without modules"))
	res := gets("no modules", good, true, "no modules of it in /lib/modules (there: "+oldRelease+")")
	b.up(res.Cmdline, "10.77.0.20")
	b.reports(res.Cmdline)
	s.waitPhase(30*time.Second, serialB, "good")
	b.off()
	s.waitVerdict(10*time.Second, serialB, "good", "on the boot files of its last good boot")

	put(t, s.root(serialB, 1), "lib/modules/"+newRelease+"/modules.dep", "")
	for i := range 3 {
		gets(fmt.Sprintf("try %d of a kernel that hangs", i+1), kernelFile(newRelease, "without modules"), false, "")
	}
	gets("after three failed boots", good, true, "3 boots in a row failed")
	b.bootsWell()
	gets("still the same files", good, true, "3 boots in a row failed")
	put(t, firmware, "vmlinuz", kernelFile(newRelease, "mended"))
	gets("other files", kernelFile(newRelease, "mended"), false, "")
	has(t, "the list of boots", s.must("device", "log", serialB, "--list"), "good: user space after", "vmlinuz was read whole", "under way")
}

// A board whose files change while it reads them gets all of them as they were
// when it began.
func TestBootFilesOfOneMoment(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useReporting()
	s.router(heardPool())
	s.devices(deviceLines("serial: " + serialB))
	s.serve()
	b := s.newBoard("4b", serialB, macB)
	b.bootsWell()
	firmware := filepath.Join(s.root(serialB, 1), "boot/firmware")
	before := map[string]string{}
	for _, n := range []string{"config.txt", "vmlinuz", "initrd.img", "bcm2711-rpi-4-b.dtb"} {
		text, err := os.ReadFile(filepath.Join(firmware, n))
		must(t, err)
		before[n] = string(text)
	}
	changed := false
	b.observe = func(e fakepi.Event) {
		if !changed && strings.HasSuffix(e.File, "start4.elf") && e.Outcome == fakepi.Found {
			changed = true
			for n := range before {
				must(t, os.WriteFile(filepath.Join(firmware, n), []byte("kernel=upgraded\n"), 0o644))
			}
		}
	}
	res := b.fetch()
	if !changed {
		t.Fatal("nothing changed")
	}
	for n, f := range map[string]fakepi.File{"vmlinuz": res.Kernel, "initrd.img": res.Initramfs, "bcm2711-rpi-4-b.dtb": res.DTB} {
		if string(f.Data) != before[n] || !strings.HasSuffix(f.Name, n) {
			t.Errorf("%s is not as it was when the boot began: %s, %d bytes", n, f.Name, len(f.Data))
		}
	}
}

// Without a last good boot a board that cannot boot is told so, and its admin why.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useReporting()
	s.router(heardPool())
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.write("rubus.yaml", "boot: {check: warn}\nnetconsole: {enabled: true}\n")
	s.serve()
	a, b := s.newBoard("3b", serialA, macA), s.newBoard("4b", serialB, macB)

	// A kernel that never asks for its root.
	b.fetch()
	l := s.bootLog(serialB)
	if l.Verdict.Grade != flight.Open {
		t.Errorf("too early to judge: %+v", l.Verdict)
	}

	// What --follow shows goes on with what comes.
	shown, err := os.Create(filepath.Join(s.dir, "followed"))
	must(t, err)
	defer shown.Close()
	cmd := s.host.command(context.Background(), shared.Rubus, "device", "log", serialB, "--follow")
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), shown, shown
	follow, err := child.Start(cmd)
	must(t, err)
	t.Cleanup(func() { follow.Stop(5 * time.Second) })
	shows := func(words ...string) {
		t.Helper()
		harness.Until(t, 20*time.Second, "--follow shows a boot", func() error {
			text, err := os.ReadFile(shown.Name())
			for _, w := range words {
				if err == nil && !strings.Contains(string(text), w) {
					err = fmt.Errorf("no %q in\n%s", w, text)
				}
			}
			return err
		})
	}
	shows("boot 1 of "+serialB, "vmlinuz")

	// A kernel that config.txt names and that is not there.
	put(t, s.root(serialB, 1), "boot/firmware/config.txt", "arm_64bit=1\nkernel=kernel8.img\n")
	if _, err := b.firmware(t.Context()); err == nil {
		t.Error("the board has a kernel")
	}
	s.waitVerdict(90*time.Second, serialB, "no-kernel", "the Pi 4B asked for kernel8.img", "/boot/firmware")
	has(t, "device log", s.must("device", "log", serialB), "DISCOVER by eeprom of a Pi 4B", "OFFER by rubus, "+hostAddr, "OFFER by "+routerAddr,
		"recovery.elf", "not there, as on most boards", "verdict: the Pi 4B asked for kernel8.img")
	shows("boot 2 of "+serialB, "verdict: the Pi 4B asked for kernel8.img")
	follow.Stop(5 * time.Second)
	has(t, "the boot before", s.must("device", "log", serialB, "--boot", "-1"), "vmlinuz was read whole and nothing came after it")

	// A Pi 3's two DISCOVERs are one boot, and its console is heard.
	res := a.boot("10.77.0.21")
	must(t, a.net.do(func() error { return sayUDP(hostAddr+":6666", "[   12.0] Run /sbin/init\x1b[0m as init process\n") }))
	harness.Until(t, 20*time.Second, "the console is in the record", func() error {
		for _, e := range s.bootLog(serialA).Timeline.Events {
			if e.Kind == flight.Console && e.Text == "[   12.0] Run /sbin/init?[0m as init process" {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if l := s.bootLog(serialA); l.Timeline.N != 1 {
		t.Errorf("%d boots of a Pi 3 that booted once", l.Timeline.N)
	}
	a.reports(res.Cmdline)
	s.waitVerdict(30*time.Second, serialA, "good")
	a.off()
}

// The router's option 66 sends boards elsewhere, and the verdict says so.
func TestOption66Verdict(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(append([]string{"--dhcp-option=66,10.77.0.9"}, heardPool()...))
	s.devices(deviceLines("serial: " + serialB))
	s.serve()
	b := s.newBoard("4b", serialB, macB)
	_, _ = b.firmware(t.Context())
	s.waitVerdict(60*time.Second, serialB, "option-66", routerAddr, "10.77.0.9", "set it to "+hostAddr)
}

// sayUDP sends one datagram.
func sayUDP(to, text string) error {
	c, err := net.Dial("udp4", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.WriteString(c, text)
	return err
}
