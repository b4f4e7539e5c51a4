package boot_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/config/device"
	"rubus/nfsexport"
)

// What must never happen to a board, each by the shortest way it could.

func TestCorruptRecordIsNotOverwritten(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	if err := l.fleet.Stop(t.Context(), serialA); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.opt.State, "devices", serialA.String(), "device.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.restart()
	if !l.exp.inDoubt() {
		t.Error("handles of a root that nobody knows would be stale")
	}
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err == nil {
		t.Error("files are served from a root that nobody knows")
	}
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}); err == nil {
		t.Error("a board with an unreadable record was reset")
	}
	if _, err := record.Uses(l.opt.State); err == nil {
		t.Error("the image store is told that nothing is in use")
	}
	if b, _ := os.ReadFile(path); string(b) != "{torn" {
		t.Fatalf("the record was overwritten: %s", b)
	}
	// Mended by hand: taken up again without a restart.
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	l.fleet.LookAfter(t.Context())
	if l.exp.inDoubt() {
		t.Error("all records can be read, and the exporter is in doubt")
	}
	if x := l.boots(serialA, macA, addrA); !has(x, "mine") {
		t.Error("its writes are gone")
	}
}

func TestMACEditedWhileUp(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	l.want.Devices[serialA].MAC = evil
	at := netip.MustParseAddr("10.77.0.66")
	l.link.set(func(k *link) { k.owners[at] = evil })
	if _, err := l.file(serialA.String()+"/config.txt", at); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("files: %v", err)
	}
	if _, err := l.fleet.Mount(t.Context(), x.Path, netip.AddrPortFrom(at, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("MOUNT: %v", err)
	}
	if now, _ := l.exp.get(x.ID); now.Client != addrA {
		t.Errorf("the running board lost its root to %s", now.Client)
	}
}

func TestResetWhileRootCannotBeRestored(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	layers := filepath.Join(l.opt.State, "images", "layers")
	if err := l.fleet.Stop(t.Context(), serialA); err != nil {
		t.Fatal(err)
	}
	x = l.boots(serialA, macA, addrA)
	// The server reboots, and the disk with the layers comes late.
	l.unmount(x)
	if err := os.Rename(layers, layers+".late"); err != nil {
		t.Fatal(err)
	}
	l.restart()
	if now, ok := l.exp.get(x.ID); !ok || now.State != nfsexport.Preparing {
		t.Errorf("calls of the board do not wait: %+v %v", now, ok)
	}
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}); !errors.Is(err, boot.ErrUp) {
		t.Errorf("reset under a waiting board: %v", err)
	}
	if err := os.Rename(layers+".late", layers); err != nil {
		t.Fatal(err)
	}
	l.fleet.LookAfter(t.Context())
	if now, _ := l.exp.get(x.ID); now.State != nfsexport.Ready || !has(now, "mine") {
		t.Errorf("the root is not back: %+v", now)
	}
}

func TestSilenceDoesNotLast(t *testing.T) {
	l := newLab(t)
	l.boots(serialA, macA, addrA)
	l.link.set(func(k *link) { k.silent[macA] = true })
	l.proveDown(serialA)
	// The cable is back; the board is idle.
	l.link.set(func(k *link) { k.silent[macA] = false })
	l.clock.add(time.Hour)
	if st, _ := l.fleet.Board(serialA); st.Up == phase.UpNo {
		t.Error("a proof of an hour ago still counts")
	}
	if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}); !errors.Is(err, boot.ErrUp) {
		t.Errorf("reset of an idle board: %v", err)
	}
}

func TestForgedMountOfAnEphemeralBoard(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialB, macB, addrB)
	l.write(x, "mine")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	// Another host sends a file request and a MOUNT with the board's address.
	l.clock.add(10 * time.Minute)
	if _, err := l.file(serialB.String()+"/start.elf", addrB); err != nil {
		t.Fatal(err)
	}
	if _, err := l.fleet.Mount(t.Context(), "/"+serialB.String()+"/2", netip.AddrPortFrom(addrB, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("MOUNT without a boot: %v", err)
	}
	for range 3 {
		l.clock.add(10 * time.Minute)
		l.fleet.LookAfter(t.Context())
	}
	if _, ok := l.exp.get(x.ID); !ok || !has(x, "mine") {
		t.Error("the running board lost its root")
	}
}

func TestRestartBetweenFilesAndMount(t *testing.T) {
	l := newLab(t)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
		t.Fatal(err)
	}
	l.restart()
	l.mounts("/"+serialA.String()+"/1", addrA)
}

func TestPublishFailsOnce(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.exp = &exporter{now: map[nfsexport.ID]nfsexport.Export{}, failReady: 1}
	l.restartWith(l.exp)
	if now, _ := l.exp.get(x.ID); now.State != nfsexport.Preparing {
		t.Fatalf("%+v", now)
	}
	l.fleet.LookAfter(t.Context())
	if now, _ := l.exp.get(x.ID); now.State != nfsexport.Ready {
		t.Errorf("not tried again: %+v", now)
	}
}

func TestAddressGoesToAnotherBoard(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	// A's lease ran out; B gets its address.
	l.link.set(func(k *link) { k.owners = map[netip.Addr]device.MAC{addrA: macB}; k.silent[macA] = true })
	l.proveDown(serialA)
	l.boots(serialB, macB, addrA)
	l.published(x.ID, netip.Addr{})
}

func TestPersistentOrder(t *testing.T) {
	l := newLab(t)
	l.boots(serialA, macA, addrA)
	l.importImage("two")
	x := l.boots(serialA, macA, addrA) // slot 2; slot 1 is old and empty
	l.write(x, "mine")
	l.importImage("three")
	if x := l.boots(serialA, macA, addrA); !has(x, "mine") {
		t.Error("the boot took another slot than the one with the board's writes")
	}
}

func TestDisabledBoardMayNotMount(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.want.Devices[serialA].Enabled = false
	if _, err := l.fleet.Mount(t.Context(), x.Path, netip.AddrPortFrom(addrA, 700)); !errors.Is(err, boot.ErrRefused) {
		t.Errorf("MOUNT of a disabled device: %v", err)
	}
}

func TestForgedSerialsDoNotFillTheTable(t *testing.T) {
	l := newLab(t)
	l.want.Unknown = boot.UnknownBoot
	l.want.UnknownDevice = boot.Device{Image: l.want.Devices[serialA].Image}
	l.boots(serialA, macA, addrA)
	for i := range 3000 {
		s, _ := device.SerialFromUint32(uint32(i + 1))
		// A known board's MAC, with other serials: by DHCP and by TFTP.
		l.fleet.Sight(sighting.Sighting{Serial: s, MAC: macA})
		_, _ = l.file(s.String()+"/start.elf", addrA)
	}
	if n := len(l.fleet.Boards()); n != 2 {
		t.Errorf("%d boards are remembered", n)
	}
}

// answers has the fleet ask the board, and waits until its answer is noted: else it would be of
// the time to which a test sets the clock meanwhile.
func (l *lab) answers(s device.Serial) {
	l.Helper()
	l.fleet.LookAfter(l.Context())
	<-l.link.asked
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if st, ok := l.fleet.Board(s); ok && st.Up == phase.UpYes {
			return
		}
		if time.Now().After(deadline) {
			l.Fatal("the board's answer is not noted")
		}
	}
}

// proveDown lets time go by until the fleet has asked the board and judged.
func (l *lab) proveDown(s device.Serial) {
	l.Helper()
	l.clock.add(10 * time.Minute)
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		l.fleet.LookAfter(l.Context())
		for range 100 {
			if st, ok := l.fleet.Board(s); ok && st.Up == phase.UpNo {
				return
			}
			time.Sleep(time.Millisecond) // the answer is on its way to the board's evidence
		}
	}
	l.Fatal("the board was never found to be down")
}
