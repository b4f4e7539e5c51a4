package boot_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
)

func TestFirstBoot(t *testing.T) {
	l := newLab(t)
	v := l.fleet.Sight(sighting.Sighting{MAC: macA, Stage: "rom"}) // a Pi 3's ROM: no serial
	if !v.Answer || v.Serial != serialA {
		t.Fatalf("%+v", v)
	}
	if got, err := l.file("bootcode.bin", addrA); err != nil || got != "boot" {
		t.Fatalf("bare bootcode.bin: %q, %v", got, err)
	}
	cmdline, err := l.file(serialA.String()+"/cmdline.txt", addrA)
	want := "console=ttyS1 root=/dev/nfs nfsroot=10.77.0.1:/b8123456/1,vers=3,tcp,nolock,hard,nocto,acregmin=600,acregmax=600,acdirmin=600,acdirmax=600 rw ip=dhcp rootwait rubus.boot=ID quiet\n"
	id, _ := l.fleet.Board(serialA)
	if want = strings.Replace(want, "ID", id.Boot.ID, 1); err != nil || cmdline != want || id.Boot.ID == "" {
		t.Errorf("cmdline %q, %v\nwant    %q", cmdline, err, want)
	}
	config, err := l.file(serialA.String()+"/config.txt", addrA)
	if err != nil || !strings.HasPrefix(config, "arm_64bit=1\n") || !strings.HasSuffix(config, "\n[all]\ndtparam=audio=off\n") {
		t.Errorf("config %q, %v", config, err)
	}
	if _, err := l.file(serialA.String()+"/recovery.elf", addrA); !errors.Is(err, boot.ErrNotFound) {
		t.Errorf("a missing file: %v", err)
	}
	x := l.mounts("/b8123456/1", addrA)
	if st, _ := l.fleet.Board(serialA); st.Phase != phase.Mounted || st.MAC != macA || st.Address != addrA {
		t.Errorf("status %+v", st)
	}
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	x.Activity.InitRead.Store(l.clock.now().UnixNano())
	if st, _ := l.fleet.Board(serialA); st.Phase != phase.Running || st.Up != phase.UpYes {
		t.Errorf("status after init was read %+v", st)
	}
}

func TestPersistentStaysOnItsBase(t *testing.T) {
	l := newLab(t)
	l.boots(serialA, macA, addrA)
	l.importImage("two")
	// Never written to: follows the tag.
	x := l.boots(serialA, macA, addrA)
	if g := l.golden(x); g != "two" {
		t.Fatalf("a board never written to boots %q", g)
	}
	l.write(x, "etc/mine")
	l.importImage("three")
	x = l.boots(serialA, macA, addrA)
	if g := l.golden(x); g != "two" || !has(x, "etc/mine") {
		t.Fatalf("a board with writes boots %q", g)
	}
	if st, _ := l.fleet.Board(serialA); st.Running.String() != "lab@2" || st.Available.String() != "lab@3" {
		t.Errorf("status %v (%v available)", st.Running, st.Available)
	}
	uses, err := record.Uses(l.opt.State)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, u := range uses {
		found = found || u.Ref.String() == "lab@2"
	}
	if !found {
		t.Errorf("the store is not told that lab@2 is in use: %+v", uses)
	}
}

func TestRestartKeepsRoots(t *testing.T) {
	l := newLab(t)
	a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	l.write(a, "mine")
	l.write(b, "mine")
	l.importImage("two") // the tag moves meanwhile
	l.restart()
	for _, old := range []nfsexport.Export{a, b} {
		x, ok := l.exp.get(old.ID)
		if !ok || x.State != nfsexport.Ready || x.Client != old.Client || x.Dir != old.Dir {
			t.Errorf("after a restart %s is %+v", old.Name, x)
		}
		if !has(x, "mine") || l.golden(x) != "one" {
			t.Errorf("the root of %s is another", old.Name)
		}
	}
}

func TestEphemeral(t *testing.T) {
	l := newLab(t)
	first := l.boots(serialB, macB, addrB)
	l.write(first, "mine")
	// Requests in the board's name that no MOUNT follows leave one empty upper.
	for range 3 {
		l.clock.add(time.Minute)
		l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB})
		if _, err := l.file(serialB.String()+"/start.elf", addrB); err != nil {
			t.Fatal(err)
		}
	}
	if st, _ := l.fleet.Board(serialB); len(st.Slots) != 2 || !has(first, "mine") {
		t.Fatalf("slots after forged requests: %+v", st.Slots)
	}
	second := l.boots(serialB, macB, addrB)
	if second.ID == first.ID || has(second, "mine") {
		t.Fatal("a new boot found the writes of the last")
	}
	second.Activity.LastCall.Store(l.clock.now().Add(time.Second).UnixNano())
	// The former root stays for as long as something calls on it.
	first.Activity.LastCall.Store(l.clock.now().Add(4 * time.Minute).UnixNano())
	l.clock.add(6 * time.Minute)
	l.fleet.LookAfter(t.Context())
	if _, ok := l.exp.get(first.ID); !ok {
		t.Fatal("a root that was called on two minutes ago was removed")
	}
	l.clock.add(6 * time.Minute)
	l.fleet.LookAfter(t.Context())
	if _, ok := l.exp.get(first.ID); ok {
		t.Error("a root that is quiet was kept")
	}
	if st, _ := l.fleet.Board(serialB); len(st.Slots) != 1 {
		t.Errorf("slots %+v", st.Slots)
	}
	if dirs, _ := os.ReadDir(filepath.Join(l.opt.State, "devices", serialB.String(), "uppers")); len(dirs) != 1 {
		t.Errorf("uppers on disk: %v", dirs)
	}
}

func TestAnotherMACIsRefusedWhileUp(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	v := l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: evil})
	if v.Answer {
		t.Fatal("another MAC was answered while the board is up")
	}
	at := netip.MustParseAddr("10.77.0.66")
	l.link.set(func(k *link) { k.owners[at] = evil })
	if _, err := l.file(serialA.String()+"/config.txt", at); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("files for another MAC: %v", err)
	}
	if _, err := l.fleet.Mount(t.Context(), x.Path, netip.AddrPortFrom(at, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("MOUNT by another MAC: %v", err)
	}
	if _, err := l.fleet.Mount(t.Context(), x.Path, netip.AddrPortFrom(addrA, 7000)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("MOUNT from a user's port: %v", err)
	}
	if l.fleet.Rebind(t.Context(), x.ID, netip.AddrPortFrom(at, 700)) {
		t.Error("an NFS call of another MAC was let through")
	}
	st, _ := l.fleet.Board(serialA)
	if st.MAC != macA || st.Address != addrA || st.Refusal == "" {
		t.Errorf("the binding changed, or nothing is reported: %+v", st)
	}
	// Once it is proved down, the new MAC may be the board.
	l.link.set(func(k *link) { k.silent[macA] = true })
	l.proveDown(serialA)
	if v := l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: evil}); !v.Answer {
		t.Errorf("a replaced card is refused for ever: %s", v.Why)
	}
	// It is the board then, with all that the board wrote.
	if y := l.boots(serialA, evil, at); !has(y, "mine") {
		t.Error("after the swap what the board wrote is gone")
	}
}

// A serial that was wrong in devices.yaml is mended: the board, which was served
// under the wrong one, is served under its own. Both make the same MAC.
func TestMendedSerial(t *testing.T) {
	wrong, right := mustSerial("a66c4c16"), mustSerial("b66c4c16")
	mac := right.PiMAC()
	for _, mounted := range []bool{false, true} {
		l := newLab(t)
		l.link.set(func(k *link) { k.owners[addrA] = mac })
		entry := func(s device.Serial) {
			l.want.Devices = map[device.Serial]*boot.Device{s: {Serial: s, Image: imageref.Ref{Name: "lab"}, Enabled: true}}
			l.want.ByMAC = map[device.MAC]device.Serial{mac: s}
			next := *l.want
			l.fleet.Apply(&next)
		}
		entry(wrong)
		if mounted {
			x := l.boots(wrong, mac, addrA)
			x.Activity.LastCall.Store(l.clock.now().UnixNano())
		} else if v := l.fleet.Sight(sighting.Sighting{MAC: mac}); !v.Answer || v.Serial != wrong {
			t.Fatalf("the ROM is answered %+v", v)
		}
		entry(right)
		if mounted {
			// While it runs as the wrong one it is not to be the other, and
			// this is said.
			if v := l.fleet.Sight(sighting.Sighting{Serial: right, MAC: mac}); v.Answer {
				t.Error("one machine is two boards")
			}
			if st, ok := l.fleet.Board(right); !ok || st.Refusal == "" {
				t.Errorf("why it is refused is not told: %+v", st)
			}
			l.link.set(func(k *link) { k.silent[mac] = true })
			l.proveDown(wrong)
		}
		for _, s := range []sighting.Sighting{{MAC: mac}, {Serial: right, MAC: mac}} {
			if v := l.fleet.Sight(s); !v.Answer || v.Serial != right {
				t.Errorf("mounted %v: %+v is answered %+v", mounted, s, v)
			}
		}
		l.boots(right, mac, addrA)
		for _, s := range []device.Serial{wrong, right} {
			_ = l.fleet.Stop(t.Context(), s)
		}
	}
}

// A board whose first DISCOVER ever is refused is shown with the reason.
func TestRefusedBeforeSeen(t *testing.T) {
	l := newLab(t)
	l.want.Devices[serialB].MAC = macB
	if v := l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: evil}); v.Answer {
		t.Fatal("another MAC than that of devices.yaml is answered")
	}
	if st, ok := l.fleet.Board(serialB); !ok || !strings.Contains(st.Refusal, macB.String()) {
		t.Errorf("the reason is not told: %+v", st)
	}
}

func TestRebind(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	at := netip.MustParseAddr("10.77.0.77")
	l.link.set(func(k *link) { k.owners[at] = macA })
	if l.fleet.Rebind(t.Context(), x.ID, netip.AddrPortFrom(at, 7000)) {
		t.Error("a user's port was let through")
	}
	if !l.fleet.Rebind(t.Context(), x.ID, netip.AddrPortFrom(at, 700)) {
		t.Fatal("the board's new lease is refused")
	}
	l.published(x.ID, at)
	l.restart()
	if now, _ := l.exp.get(x.ID); now.Client != at {
		t.Errorf("after a restart published for %s", now.Client)
	}
}

func TestStopAndReset(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}); !errors.Is(err, boot.ErrUp) {
		t.Fatalf("reset of a board that is up: %v", err)
	}
	// Idle for long, and nobody can tell: still up.
	l.link.set(func(k *link) { k.broken = true })
	l.clock.add(time.Hour)
	l.fleet.LookAfter(t.Context())
	<-l.link.asked
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}); !errors.Is(err, boot.ErrUp) {
		t.Fatalf("reset of a board of which nobody can tell: %v", err)
	}
	if err := l.fleet.Stop(t.Context(), serialA); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.exp.get(x.ID); ok {
		t.Error("still published after stop")
	}
	x = l.boots(serialA, macA, addrA)
	if !has(x, "mine") {
		t.Error("stop lost the board's writes")
	}
	uppers, err := l.fleet.Uppers(t.Context(), serialA)
	if err != nil || len(uppers) != 1 || uppers[0].Files == 0 {
		t.Errorf("what a reset would delete: %+v, %v", uppers, err)
	}
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	again := l.boots(serialA, macA, addrA)
	if has(again, "mine") || again.Path == x.Path || again.ID == x.ID {
		t.Errorf("after a reset: %+v", again)
	}
}

func TestRemovedDevice(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	gone := *l.want
	gone.Devices = map[device.Serial]*boot.Device{serialB: l.want.Devices[serialB]}
	gone.ByMAC = nil
	l.fleet.Apply(&gone)
	if v := l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA}); v.Answer {
		t.Error("a removed board is answered")
	}
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err == nil {
		t.Error("a removed board gets files")
	}
	l.clock.add(time.Hour)
	l.answers(serialA) // it is only idle
	l.fleet.LookAfter(t.Context())
	if _, ok := l.exp.get(x.ID); !ok {
		t.Fatal("a removed board that runs lost its root")
	}
	l.link.set(func(k *link) { k.silent[macA] = true })
	l.proveDown(serialA)
	l.fleet.LookAfter(t.Context())
	if _, ok := l.exp.get(x.ID); ok {
		t.Error("a removed board that is down is still exported")
	}
	l.fleet.Apply(l.want)
	if x := l.boots(serialA, macA, addrA); !has(x, "mine") {
		t.Error("its writes are gone")
	}
}

func TestMissingImageStopsOnlyItsOwn(t *testing.T) {
	l := newLab(t)
	l.want.Devices[serialA].Image = imageref.Ref{Name: "nowhere"}
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err == nil || errors.Is(err, boot.ErrRefused) {
		t.Errorf("a missing image: %v", err)
	}
	if st, _ := l.fleet.Board(serialA); st.Problem == "" {
		t.Error("no problem is shown")
	}
	l.boots(serialB, macB, addrB)
}

func TestUnknownBoards(t *testing.T) {
	l := newLab(t)
	for i := range 5000 {
		s, _ := device.SerialFromUint32(uint32(i + 1))
		l.fleet.Sight(sighting.Sighting{Serial: s, MAC: device.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}})
	}
	if n := len(l.fleet.Unknown()); n == 0 || n > 2048 {
		t.Errorf("%d unknown boards remembered", n)
	}
	if n := len(l.fleet.Boards()); n != 2 {
		t.Errorf("%d boards", n)
	}
}

func TestOffLink(t *testing.T) {
	l := newLab(t)
	far := netip.MustParseAddr("192.0.2.9")
	l.link.set(func(k *link) { k.off[far] = true })
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA})
	if _, err := l.file(serialA.String()+"/start.elf", far); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("off the link without address: %v", err)
	}
	l.want.Devices[serialA].Address = far
	if _, err := l.file(serialA.String()+"/start.elf", far); err != nil {
		t.Errorf("off the link with address: %v", err)
	}
}

// Whether metadata waits for the disk is each board's own, and stays so over a
// restart; a board that runs is asked for it at its next boot.
