package boot_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/identity"
	"rubus/boot/sighting"
	"rubus/config/boardtext"
	"rubus/config/device"
	"rubus/nfsexport"
)

// wishes gives boards identities.
func (l *lab) wishes(files ...identity.File) {
	l.Helper()
	next := *l.want
	next.Devices = map[device.Serial]*boot.Device{}
	for s, d := range l.want.Devices {
		dev := *d
		dev.Identity = &identity.Wish{Facts: boardtext.Facts{Serial: s.String()}, Files: files}
		next.Devices[s] = &dev
	}
	l.want = &next
	l.fleet.Apply(l.want)
}

// goesDown has the first board off, and that proved.
func (l *lab) goesDown() {
	l.Helper()
	l.link.set(func(k *link) { k.silent[macA] = true })
	l.proveDown(serialA)
}

func (l *lab) content(x nfsexport.Export, name string) string {
	l.Helper()
	b, err := os.ReadFile(filepath.Join(x.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		l.Fatal(err)
	}
	return string(b)
}

// identityOf is what tells a board from all others.
func (l *lab) identityOf(x nfsexport.Export) string {
	l.Helper()
	return l.content(x, "etc/hostname") + l.content(x, "etc/machine-id") + l.content(x, "etc/ssh/ssh_host_ed25519_key")
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// Boards from one image have each their identity, and keep it whatever becomes of their
// writes: another boot, a restart, a reset, another image, an ephemeral overlay.
func TestIdentityStays(t *testing.T) {
	l := newLab(t)
	secret := secretFile(t, "s3cret")
	l.wishes(identity.File{Path: "/etc/app/token", From: secret, Secret: true, Mode: 0o600})
	a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	is := l.identityOf(a)
	if !strings.HasPrefix(is, "rpi-"+serialA.String()+"\n") || strings.Contains(is, "(none)") || is == l.identityOf(b) {
		t.Fatalf("identities %q and %q", is, l.identityOf(b))
	}
	if got := l.content(a, "etc/app/token"); got != "s3cret" {
		t.Errorf("the secret is %q", got)
	}
	// Nothing of it came into a layer.
	l.neverBelow("images", "s3cret", l.content(a, "etc/ssh/ssh_host_ed25519_key"))
	same := func(when string, x nfsexport.Export) {
		t.Helper()
		if got := l.identityOf(x); got != is {
			t.Errorf("%s the identity is %q, not %q", when, got, is)
		}
		if got := l.content(x, "etc/app/token"); got != "s3cret" {
			t.Errorf("%s the secret is %q", when, got)
		}
	}
	l.write(a, "mine")
	same("at the next boot", l.boots(serialA, macA, addrA))
	l.restart()
	l.wishes(identity.File{Path: "/etc/app/token", From: secret, Secret: true, Mode: 0o600})
	same("after a restart", l.boots(serialA, macA, addrA))

	l.importImage("second")
	l.goesDown()
	if err := l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{}); err != nil {
		t.Fatal(err)
	}
	x := l.boots(serialA, macA, addrA)
	if l.golden(x) != "second" {
		t.Errorf("it stands on %q", l.golden(x))
	}
	same("after a reset, over another image,", x)
}

// An upper with nothing but an identity is as good as empty.
func TestIdentityIsNoWriting(t *testing.T) {
	l := newLab(t)
	l.wishes()
	x := l.boots(serialA, macA, addrA)
	l.importImage("second")
	l.goesDown()
	y := l.boots(serialA, macA, addrA)
	if l.golden(y) != "second" || x.ID == y.ID {
		t.Errorf("a board that wrote nothing stands on %q", l.golden(y))
	}
	// A write, be it to a file of the identity, is the board's.
	if err := os.WriteFile(filepath.Join(y.Dir, "etc/hostname"), []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.importImage("third")
	l.goesDown()
	if z := l.boots(serialA, macA, addrA); l.golden(z) != "second" {
		t.Errorf("a board that wrote stands on %q", l.golden(z))
	}
}

// What changes in devices.yaml reaches a board at its next boot, and never before.
func TestIdentityChangesAtBoot(t *testing.T) {
	l := newLab(t)
	l.importImage("golden text")
	l.wishes(identity.File{Path: "/etc/motd", Content: "one", Mode: 0o644}, identity.File{Path: "/etc/golden", Content: "ours", Mode: 0o644})
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	if l.content(x, "etc/motd") != "one" || l.content(x, "etc/golden") != "ours" {
		t.Fatal(l.content(x, "etc/motd"), l.content(x, "etc/golden"))
	}
	l.wishes(identity.File{Path: "/etc/motd", Content: "two", Mode: 0o644})
	// A file request with the board's address, while the board runs, changes nothing
	// below its feet; nor does it when the board mounts its root once more.
	l.mounts(x.Path, addrA)
	l.clock.add(time.Second)
	if v := l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA}); !v.Answer {
		t.Fatal(v.Why)
	}
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
		t.Fatal(err)
	}
	if got := l.content(x, "etc/motd"); got != "one" {
		t.Errorf("before it boots the file is %q", got)
	}
	l.mounts(x.Path, addrA)
	if got := l.content(x, "etc/motd"); got != "two" {
		t.Errorf("at its next boot the file is %q", got)
	}
	// What devices.yaml names no more is the image's again.
	if got := l.content(x, "etc/golden"); got != "golden text" {
		t.Errorf("the file of the image is %q", got)
	}
	if l.exp.held != l.exp.released || l.exp.held == 0 {
		t.Errorf("calls were held %d times and released %d times", l.exp.held, l.exp.released)
	}
}

// What cannot be given is told, and the board boots.
func TestIdentityLacks(t *testing.T) {
	l := newLab(t)
	l.wishes(identity.File{Path: "/etc/app/token", From: filepath.Join(t.TempDir(), "none"), Secret: true, Mode: 0o600})
	x := l.boots(serialA, macA, addrA)
	st, _ := l.fleet.Board(serialA)
	if !strings.Contains(st.Problem, "identity: file /etc/app/token: open ") {
		t.Errorf("problem %q", st.Problem)
	}
	if got := l.content(x, "etc/hostname"); got != "rpi-"+serialA.String()+"\n" {
		t.Errorf("host name %q", got)
	}
}

// A board that replaces another is that board, and the old one is a new one.
func TestIdentityIsHandedOver(t *testing.T) {
	l := newLab(t)
	l.wishes()
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	key := l.content(x, "etc/ssh/ssh_host_ed25519_key")
	l.goesDown()
	if err := l.fleet.Replace(l.Context(), serialA, serialB); err != nil {
		t.Fatal(err)
	}
	if got := l.content(l.boots(serialB, macB, addrB), "etc/ssh/ssh_host_ed25519_key"); got != key {
		t.Error("the new board has another host key")
	}
	if got := l.content(l.boots(serialA, macA, addrA), "etc/ssh/ssh_host_ed25519_key"); got == key || got == "(none)" {
		t.Error("the old board has the host key still")
	}
}

// neverBelow wants no file below a directory of the state to hold one of the texts.
func (l *lab) neverBelow(dir string, texts ...string) {
	l.Helper()
	err := filepath.WalkDir(filepath.Join(l.opt.State, dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		for _, text := range texts {
			if strings.Contains(string(b), text) {
				l.Errorf("%s has what is the board's alone", p)
			}
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
}

// A new version that has host names and ids of its own is no conflict with a board's
// identity, and a snapshot that is restored has the identity of today.
func TestIdentityOverRebaseAndRestore(t *testing.T) {
	l := newLab(t)
	secret := secretFile(t, "s3cret")
	token := identity.File{Path: "/etc/app/token", From: secret, Secret: true, Mode: 0o600}
	l.wishes(token)
	x := l.boots(serialA, macA, addrA)
	is := l.identityOf(x)
	l.write(x, "mine")
	snap, err := l.fleet.Snapshot(l.Context(), serialA, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	// Another one from now on: the snapshot has the former.
	if err := os.WriteFile(secret, []byte("n3w"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.importImage("second", "etc/hostname", "image\n", "etc/machine-id", "00000000000000000000000000000001\n", "etc/app/token", "of the image", "etc/hosts", "127.0.0.1 other\n")
	l.goesDown()
	out, err := l.fleet.Rebase(l.Context(), serialA, two(), nil)
	if err != nil || out.Clashed > 0 {
		t.Fatalf("%+v %v", out, err)
	}
	check := func(what, golden string) {
		t.Helper()
		x := l.boots(serialA, macA, addrA)
		if l.golden(x) != golden || l.content(x, "mine") != "mine" {
			t.Errorf("%s it stands on %q, with %q", what, l.golden(x), l.content(x, "mine"))
		}
		if got := l.identityOf(x); got != is {
			t.Errorf("%s the identity is %q, not %q", what, got, is)
		}
		if got := l.content(x, "etc/app/token"); got != "n3w" {
			t.Errorf("%s the secret is %q", what, got)
		}
	}
	check("rebased", "second")
	l.goesDown()
	if err := l.fleet.Restore(l.Context(), serialA, snap.N, nil); err != nil {
		t.Fatal(err)
	}
	check("restored", "one")
}

// A board may have made of its root what it likes: it boots, with what can be given to
// it, and nothing outside of its root is touched.
func TestIdentityInHostileRoot(t *testing.T) {
	l := newLab(t)
	l.wishes(identity.File{Path: "/boot/note", Content: "ours", Mode: 0o644})
	x := l.boots(serialA, macA, addrA)
	outside := t.TempDir()
	for name, text := range map[string]string{"hostname": "the host's", "machine-id": "the host's"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(x.Dir, "etc")), os.Symlink(outside, filepath.Join(x.Dir, "etc"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(x.Dir, "boot/note")); err != nil {
		t.Fatal(err)
	}
	l.goesDown()
	x = l.boots(serialA, macA, addrA)
	if got := l.content(x, "boot/note"); got != "ours" {
		t.Errorf("what could be given is %q", got)
	}
	list, err := os.ReadDir(outside)
	if err != nil || len(list) != 2 {
		t.Errorf("outside there is %v: %v", list, err)
	}
	for _, e := range list {
		if b, err := os.ReadFile(filepath.Join(outside, e.Name())); err != nil || string(b) != "the host's" {
			t.Errorf("outside %s holds %q: %v", e.Name(), b, err)
		}
	}
}

// A board that no entry names is a host of its own, too.
func TestIdentityOfUnknown(t *testing.T) {
	l := newLab(t)
	next := *l.want
	next.Devices = map[device.Serial]*boot.Device{}
	next.Unknown = boot.UnknownBoot
	next.UnknownDevice = boot.Device{Image: l.want.Devices[serialA].Image, Enabled: true, Identity: &identity.Wish{}}
	l.want = &next
	l.fleet.Apply(l.want)
	a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	if got := l.content(a, "etc/hostname"); got != "rpi-"+serialA.String()+"\n" {
		t.Errorf("host name %q", got)
	}
	if got := l.identityOf(b); got == l.identityOf(a) || strings.Contains(got, "(none)") {
		t.Errorf("identities %q and %q", got, l.identityOf(a))
	}
}

// Boards that took the same name themselves, or one that is another's by now, are told
// apart again; who may log in is each board's own.
func TestIdentityIsUnique(t *testing.T) {
	l := newLab(t)
	l.importImage("golden text", "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", "root/note", "x")
	l.wishes()
	l.want.Devices[serialB].Ephemeral = false
	l.fleet.Apply(l.want)
	own := func(x nfsexport.Export) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(x.Dir, "etc/hostname"), []byte("Raspberrypi\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	own(l.boots(serialA, macA, addrA))
	own(l.boots(serialB, macB, addrB))
	if got := l.content(l.boots(serialA, macA, addrA), "etc/hostname"); got != "Raspberrypi\n" {
		t.Errorf("the first is called %q", got)
	}
	b := l.boots(serialB, macB, addrB)
	if got := l.content(b, "etc/hostname"); got != "rpi-"+serialB.String()+"\n" {
		t.Errorf("the second is called %q", got)
	}
	if st, _ := l.fleet.Board(serialB); !strings.Contains(st.Problem, "that of board "+serialA.String()) {
		t.Errorf("problem %q", st.Problem)
	}
	l.goesDown()
	if err := l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := l.content(l.boots(serialA, macA, addrA), "etc/hostname"); got != "Raspberrypi\n" {
		t.Errorf("after a reset the first is called %q", got)
	}
	// devices.yaml comes first, and each board gets its own keys.
	next := *l.want
	next.Devices = map[device.Serial]*boot.Device{}
	for s, d := range l.want.Devices {
		dev, wish := *d, *d.Identity
		wish.Keys = map[string][]identity.Key{"root": {{Line: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICm6J7xvxe+eWJNKCbOJw99P+Jdan1EblMd0d8ntaBxl " + s.String()}}}
		if s == serialB {
			wish.Hostname = "raspberrypi"
		}
		dev.Identity = &wish
		next.Devices[s] = &dev
	}
	l.want = &next
	l.fleet.Apply(l.want)
	for serial, want := range map[device.Serial]string{serialA: "rpi-" + serialA.String(), serialB: "raspberrypi"} {
		mac, addr := macA, addrA
		if serial == serialB {
			mac, addr = macB, addrB
		}
		x := l.boots(serial, mac, addr)
		if got := l.content(x, "etc/hostname"); got != want+"\n" {
			t.Errorf("%s is called %q, not %q", serial, got, want)
		}
		if got := l.content(x, "root/.ssh/authorized_keys"); !strings.HasSuffix(got, " "+serial.String()+"\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s lets in %q", serial, got)
		}
	}
}
