package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/phase"
	"rubus/boot/sighting"
	"rubus/nfsexport"
)

// heard keeps what the fleet tells.
type heard struct {
	mu     sync.Mutex
	events []boot.Event
}

func (h *heard) observe(e boot.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// last is the last event of a kind.
func (h *heard) last(kind string) (out boot.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind {
			out = e
		}
	}
	return out
}

const (
	release = "6.1.0-9-arm64"
	newer   = "6.1.0-10-arm64"
	unit    = "etc/systemd/system/multi-user.target.wants/rubus-booted.service"
)

func kernelOf(release, text string) string {
	return strings.Repeat("code ", 1000) + "Linux version %s (x)\x00Linux version " + release + " (debian@x) " + text
}

// setLab is a lab whose board A has written a kernel with modules and, if it is
// to report its boots, the unit.
func setLab(t *testing.T, reports bool) (l *lab, h *heard, root string) {
	t.Helper()
	l, h = newLab(t), &heard{}
	l.opt.Observe, l.opt.FallbackAfter = h.observe, 2
	l.restart()
	x := l.boots(serialA, macA, addrA)
	put(t, x.Dir, "boot/firmware/kernel8.img", kernelOf(release, "first"))
	put(t, x.Dir, "lib/modules/"+release+"/modules.dep", "")
	if reports {
		put(t, x.Dir, unit, "")
	}
	return l, h, x.Dir
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// loads boots board A and has it read its kernel, as firmware does.
func (l *lab) loads() nfsexport.Export {
	l.Helper()
	x := l.boots(serialA, macA, addrA)
	if _, err := l.file(serialA.String()+"/kernel8.img", addrA); err != nil {
		l.Fatal(err)
	}
	l.fleet.Fetched(serialA, "kernel8.img")
	return x
}

// reports has the board's system say that the boot came up.
func (l *lab) reports(x nfsexport.Export) {
	l.Helper()
	st, _ := l.fleet.Board(serialA)
	put(l.T, x.Dir, "var/lib/rubus/booted", st.Boot.ID+"\n")
	l.calls(x)
	l.fleet.LookAfter(l.Context())
}

// calls has the board read its init.
func (l *lab) calls(x nfsexport.Export) {
	l.clock.add(2 * time.Second)
	now, _ := l.exp.get(x.ID)
	now.Activity.Calls.Add(1)
	now.Activity.LastCall.Store(l.clock.now().UnixNano())
	now.Activity.InitRead.Store(l.clock.now().UnixNano())
}

func (l *lab) fetch(name string) string {
	l.Helper()
	text, err := l.file(serialA.String()+"/"+name, addrA)
	if err != nil {
		l.Fatal(err)
	}
	return text
}

func (l *lab) statusA() boot.Status {
	st, _ := l.fleet.Board(serialA)
	return st
}

func TestGoodBoot(t *testing.T) {
	l, h, _ := setLab(t, true)
	x := l.loads()
	l.calls(x)
	l.fleet.LookAfter(t.Context())
	if st := l.statusA(); st.Phase != phase.Running || h.last("running").Serial != serialA {
		t.Errorf("before its report the board is %s", st.Phase)
	}
	put(t, x.Dir, "var/lib/rubus/booted", "0123456789abcdef\n") // of an earlier boot
	l.calls(x)
	l.fleet.LookAfter(t.Context())
	if st := l.statusA(); st.Phase != phase.Running {
		t.Errorf("another boot's report makes this one %s", st.Phase)
	}
	l.reports(x)
	st := l.statusA()
	if st.Phase != phase.Good || st.Boot.Good.IsZero() || h.last("good").Boot != st.Boot.ID || !h.last("prepared").Reports {
		t.Errorf("reported, but %s: %+v", st.Phase, st.Boot)
	}
	if got := st.Boot.Releases; len(got) != 1 || got[0] != release {
		t.Errorf("releases %q", got)
	}
	l.restart()
	if st := l.statusA(); st.Phase != phase.Good {
		t.Errorf("after a restart the board is %s", st.Phase)
	}
}

// A kernel that is not there, and one without modules, are refused with the
// reason, and the board gets the files of its last good boot.
func TestBrokenSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(root string)
		why   string
	}{
		{"no kernel", func(root string) { _ = os.Remove(filepath.Join(root, "boot/firmware/kernel8.img")) }, "kernel8.img, is not there"},
		{"no modules", func(root string) { put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, "")) }, "release 6.1.0-10-arm64, and the root has no modules"},
		{"config.txt names another", func(root string) { put(t, root, "boot/firmware/config.txt", "kernel=vmlinuz\n") }, "vmlinuz, is not there"},
		{"no initramfs", func(root string) { put(t, root, "boot/firmware/config.txt", "arm_64bit=1\ninitramfs initrd.img\n") }, "initramfs initrd.img"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, h, root := setLab(t, true)
			l.reports(l.loads())
			c.spoil(root)
			x := l.loads()
			if got := l.fetch("kernel8.img"); got != kernelOf(release, "first") {
				t.Errorf("the board got the kernel %q", got[len(got)-20:])
			}
			st := l.statusA()
			if p := h.last("prepared"); !p.LastGood || !strings.Contains(p.Problem, c.why) || !st.Boot.LastGood || !strings.Contains(st.Boot.Why, c.why) {
				t.Errorf("told %q, status %+v", p.Problem, st.Boot)
			}
			l.reports(x)
			if st := l.statusA(); st.Phase != phase.Good {
				t.Errorf("on its last good files the board is %s", st.Phase)
			}
			l.clock.add(time.Minute)
			put(t, root, "boot/firmware/config.txt", "arm_64bit=1\n")
			put(t, root, "boot/firmware/kernel8.img", kernelOf(release, "mended"))
			l.loads()
			if st := l.statusA(); st.Boot.LastGood || l.fetch("kernel8.img") != kernelOf(release, "mended") {
				t.Errorf("mended, but the board gets %+v", st.Boot)
			}
		})
	}
}

func TestBrokenSetWithoutAGoodOne(t *testing.T) {
	l, h, root := setLab(t, true)
	put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, ""))
	l.clock.add(5 * time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("a broken set is given out: %v", err)
	}
	st := l.statusA()
	if !strings.Contains(st.Problem, "no modules") || !strings.Contains(h.last("blocked").Text, "no good boot is on record") {
		t.Errorf("problem %q, told %q", st.Problem, h.last("blocked").Text)
	}
	l.opt.WarnOnly = true
	l.restart()
	l.loads()
	if w := h.last("warned").Text; !strings.Contains(w, "no modules") {
		t.Errorf("only warned of %q", w)
	}
}

// What was found of an image's boot files is so for the boards that wrote none, of that version.
func TestBootFilesOfAnImage(t *testing.T) {
	l := newLab(t)
	kernel := func(text string) string { return kernelOf(release, text) }
	promote := func(text string, more ...string) {
		l.importImage(text, append([]string{
			"boot/firmware/fixup.dat", "x", "boot/firmware/bcm2710-rpi-3-b.dtb", "x", "lib/modules/" + release + "/modules.dep", "x",
			"boot/firmware/kernel8.img", kernel(text),
		}, more...)...)
	}
	var a, b nfsexport.Export
	boots := func(when, wantA, wantB string) {
		t.Helper()
		b = l.boots(serialB, macB, addrB)
		a = l.boots(serialA, macA, addrA)
		ofB, err := l.file(serialB.String()+"/kernel8.img", addrB)
		if ofA := l.fetch("kernel8.img"); err != nil || ofA != wantA || ofB != wantB {
			t.Errorf("%s: they get %q and %q, %v", when, strings.TrimPrefix(ofA, kernel("")), strings.TrimPrefix(ofB, kernel("")), err)
		}
		stA, _ := l.fleet.Board(serialA)
		stB, _ := l.fleet.Board(serialB)
		if w := append(stA.Boot.Warnings, stB.Boot.Warnings...); len(w) > 0 {
			t.Errorf("%s: warned of %q", when, w)
		}
	}
	promote("one")
	boots("the first time", kernel("one"), kernel("one"))
	boots("again", kernel("one"), kernel("one"))
	l.write(a, "etc/mine")
	boots("with other writes", kernel("one"), kernel("one"))
	put(t, a.Dir, "boot/firmware/kernel8.img", kernel("own"))
	boots("with a kernel of its own", kernel("own"), kernel("one"))
	put(t, b.Dir, "boot/firmware/kernel8.img", kernel("gone when it boots"))
	boots("after writes that are gone", kernel("own"), kernel("one"))
	promote("two")
	boots("promoted", kernel("own"), kernel("two"))
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	boots("reset", kernel("two"), kernel("two"))
	promote("three", "lib/modules/"+release+"/modules.dep", "", "lib/modules/"+newer+"/modules.dep", "x")
	l.clock.add(time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB, Stage: "eeprom"})
	if _, err := l.file(serialB.String()+"/start.elf", addrB); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("promoted without its modules: %v", err)
	}
}

// The files of one boot are of one moment, whatever becomes of the directory.
func TestOneSnapshot(t *testing.T) {
	l, _, root := setLab(t, true)
	l.loads()
	want := map[string]string{}
	for _, n := range []string{"start.elf", "kernel8.img", "config.txt"} {
		want[n] = l.fetch(n)
	}
	put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, "torn"))
	put(t, root, "boot/firmware/start.elf", "another")
	put(t, root, "boot/firmware/initramfs8", "new")
	if err := os.Remove(filepath.Join(root, "boot/firmware/config.txt")); err != nil {
		t.Fatal(err)
	}
	for n, text := range want {
		if got := l.fetch(n); got != text {
			t.Errorf("%s changed in the middle of a boot", n)
		}
	}
	if _, err := l.file(serialA.String()+"/initramfs8", addrA); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("a file that came later is given out: %v", err)
	}
}

func TestFallback(t *testing.T) {
	l, h, root := setLab(t, true)
	l.reports(l.loads())
	put(t, root, "lib/modules/"+newer+"/modules.dep", "")
	put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, "hangs"))
	for i, want := range []bool{false, false, true, true} {
		l.loads()
		if i == 1 {
			l.restart() // a daemon that ends in between forgets nothing
		}
		if st := l.statusA(); st.Boot.LastGood != want {
			t.Errorf("boot %d with the new kernel: last good %v, %+v", i+1, st.Boot.LastGood, st.Boot)
		}
		got, kernel := l.fetch("kernel8.img"), kernelOf(newer, "hangs")
		if want {
			kernel = kernelOf(release, "first")
		}
		if got != kernel {
			t.Errorf("boot %d: the wrong kernel", i+1)
		}
	}
	if why := l.statusA().Boot.Why; !strings.Contains(why, "2 boots in a row failed") || h.last("failed").Boot == "" {
		t.Errorf("why %q", why)
	}
	put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, "mended"))
	l.loads()
	if st := l.statusA(); st.Boot.LastGood || l.fetch("kernel8.img") != kernelOf(newer, "mended") {
		t.Errorf("mended files are not tried: %+v", st.Boot)
	}
}

// A boot whose files could not be kept, on a full disk for one, is good, and the
// files of an earlier boot are not, also when the daemon restarts in between.
func TestGoodBootThatIsNotKept(t *testing.T) {
	l, _, root := setLab(t, true)
	l.loads()
	kept := filepath.Join(l.opt.State, "devices", serialA.String(), "boot")
	copies := filepath.Join(kept, "objects")
	if err := errors.Join(os.RemoveAll(copies), os.WriteFile(copies, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	put(t, root, "lib/modules/"+newer+"/modules.dep", "")
	put(t, root, "boot/firmware/kernel8.img", kernelOf(newer, "not kept"))
	x := l.loads()
	if got := l.fetch("kernel8.img"); got != kernelOf(newer, "not kept") {
		t.Error("the wrong kernel")
	}
	l.restart()
	l.reports(x)
	if st := l.statusA(); st.Boot.Good.IsZero() {
		t.Errorf("%+v", st.Boot)
	}
	if _, err := os.Stat(filepath.Join(kept, "good.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the files of a boot that was not reported are kept as good: %v", err)
	}
}

// A board that reboots right after its report was good all the same.
func TestReportThenReboot(t *testing.T) {
	l, h, _ := setLab(t, true)
	for range 2 {
		x := l.loads()
		put(t, x.Dir, "var/lib/rubus/booted", l.statusA().Boot.ID)
	}
	l.loads()
	if st := l.statusA(); st.Boot.Failures > 0 || h.last("failed").Boot != "" || h.last("good").Boot == "" {
		t.Errorf("%+v, told of %+v", st.Boot, h.last("failed"))
	}
}

// Without the unit no boot is good or failed, and nothing falls back.
func TestNoUnitNoFallback(t *testing.T) {
	l, h, root := setLab(t, false)
	l.loads()
	put(t, root, "boot/firmware/kernel8.img", kernelOf(release, "second"))
	for range 5 {
		x := l.loads()
		l.reports(x) // whatever writes this: the unit is not there
		if st := l.statusA(); st.Phase == phase.Good || st.Boot.LastGood || st.Boot.Failures > 0 {
			t.Errorf("%s, %+v", st.Phase, st.Boot)
		}
	}
	if e := h.last("failed"); e.Boot != "" {
		t.Errorf("a boot failed: %+v", e)
	}
}

// What a board's root puts in the place of its report is harmless.
func TestHostileReport(t *testing.T) {
	l, _, root := setLab(t, true)
	x := l.loads()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(l.statusA().Boot.ID), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "var/lib/rubus/booted")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(secret, path)); err != nil {
		t.Fatal(err)
	}
	l.calls(x)
	l.fleet.LookAfter(t.Context())
	if st := l.statusA(); st.Phase == phase.Good {
		t.Error("a file outside of the root was read")
	}
}
