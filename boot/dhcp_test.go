package boot_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/sighting"
	"rubus/config/device"
)

// The names that firmware may put before a file all lead to the board that asks,
// and to no other.
func TestPrefixes(t *testing.T) {
	l := newLab(t)
	l.opt.Prefixes = []string{"lab/", "a long string"}
	l.restart()
	l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB})
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA})
	l.link.set(func(k *link) { k.owners[addrA], k.owners[addrB] = macA, macB })
	const name = "cmdline.txt"
	for prefix, ok := range map[string]bool{
		"":                     true,
		"/":                    true,
		"5b154510/":            true,
		"5b154510//":           true,
		"//5b154510//":         true,
		"dc-a6-32-00-00-02/":   true,
		"dc-a6-32-00-00-02//":  true,
		"lab/":                 true,
		"lab//":                true,
		"a long string":        true,
		"other/":               false,
		"DC-A6-32-00-00-02/":   false,
		"dc:a6:32:00:00:02/":   false,
		"dc-a6-32-00-00-03/":   false,
		serialA.String() + "/": false,
		strings.ReplaceAll(macA.String(), ":", "-") + "/": false,
	} {
		text, err := l.file(prefix+name, addrB)
		if ok != (err == nil) || ok && !strings.Contains(text, "/5b154510/") {
			t.Errorf("%q: %q, %v", prefix+name, text, err)
		}
		serial, rest := l.fleet.AskerOf(t.Context(), addrB, prefix+name)
		if serial != serialB || ok && rest != name {
			t.Errorf("%q is %q of %s", prefix+name, rest, serial)
		}
	}
}

// A Pi 5 gets what rubus.yaml says for the firmware of older boards; others get
// their own.
func TestPi5Start(t *testing.T) {
	for _, c := range []struct {
		say      boot.Pi5Start
		revision device.Revision
		has      bool
		want     string // "": not found
	}{
		{boot.StartOwn, 0xd04170, true, "firmware"},
		{boot.StartOwn, 0xd04170, false, ""},
		{boot.StartHide, 0xd04170, true, ""},
		{boot.StartHide, 0xc03114, true, "firmware"},
		{boot.StartAdd, 0xd04170, false, "\n"},
		{boot.StartAdd, 0xd04170, true, "firmware"},
		{boot.StartAdd, 0xc03114, false, ""},
	} {
		l := newLab(t)
		l.opt.Pi5Start = c.say
		l.restart()
		x := l.boots(serialA, macA, addrA)
		l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Revision: c.revision})
		file := filepath.Join(x.Dir, "boot/firmware/start4.elf")
		_ = os.Remove(file)
		if c.has {
			if err := os.WriteFile(file, []byte("firmware"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := l.file(serialA.String()+"/start4.elf", addrA)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// What the DHCP server asks: who has a reservation, and whose an address is.
func TestHolder(t *testing.T) {
	l := newLab(t)
	desired := *l.want
	devices := map[device.Serial]*boot.Device{}
	for s, d := range desired.Devices {
		devices[s] = d
	}
	reserved := netip.MustParseAddr("10.77.0.200")
	withAddress := *devices[serialB]
	withAddress.Address = reserved
	devices[serialB] = &withAddress
	desired.Devices = devices
	l.fleet.Apply(&desired)

	if mac, held := l.fleet.Holder(reserved); !held || !mac.IsZero() {
		t.Errorf("before the board was heard: %v, %v", mac, held)
	}
	if listed, a := l.fleet.Reserved(macB); listed || a.IsValid() {
		t.Errorf("before the board was heard: %v, %v", listed, a)
	}
	l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB})
	if mac, held := l.fleet.Holder(reserved); !held || mac != macB {
		t.Errorf("a reservation: %v, %v", mac, held)
	}
	if listed, a := l.fleet.Reserved(macB); !listed || a != reserved {
		t.Errorf("a reservation: %v, %v", listed, a)
	}
	if listed, a := l.fleet.Reserved(macA); !listed || a.IsValid() {
		t.Errorf("a Pi 3 without one: %v, %v", listed, a)
	}
	if listed, _ := l.fleet.Reserved(evil); listed {
		t.Error("a stranger is listed")
	}
	if _, held := l.fleet.Holder(addrA); held {
		t.Error("an address of nobody is held")
	}
	// Boards that stand on an address keep it, whatever became of their lease.
	l.boots(serialA, macA, addrA)
	if mac, held := l.fleet.Holder(addrA); !held || mac != macA {
		t.Errorf("a board that is up: %v, %v", mac, held)
	}
	l.link.set(func(k *link) { k.silent[macA] = true })
	l.proveDown(serialA)
	if _, held := l.fleet.Holder(addrA); held {
		t.Error("a board that is down holds its address")
	}
}

// Two thousand forged boards fill neither memory nor disk, and push out neither
// the boards of devices.yaml nor one that asks again, as real boards do.
func TestForgedBoards(t *testing.T) {
	l := newLab(t)
	real := sighting.Sighting{
		Serial: mustSerial("91cdf03d"), MAC: device.MAC{0xe4, 0x5f, 1, 9, 2, 0xf7}, Revision: 0xd03114, Stage: "eeprom", Bootloader: "2022-02-04 or later",
	}
	l.fleet.Sight(real)
	l.clock.add(8 * time.Second)
	l.fleet.Sight(real)
	first := l.clock.now().Add(-8 * time.Second)
	for i := range 4000 {
		s, _ := device.SerialFromUint32(uint32(i + 1))
		l.fleet.Sight(sighting.Sighting{Serial: s, MAC: device.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}})
		l.clock.add(time.Millisecond)
	}
	all := l.fleet.Unknown()
	if len(all) > 2048 {
		t.Errorf("%d unknown boards are remembered", len(all))
	}
	found := false
	for _, u := range all {
		if u.MAC == real.MAC {
			found = u.Times == 2 && u.First.Equal(first) && u.Last.After(u.First) && u.Bootloader == real.Bootloader && u.Revision == real.Revision
		}
	}
	if !found {
		t.Error("the real one is pushed out, or what it said is forgotten")
	}
	if n := len(l.fleet.Boards()); n != 2 {
		t.Errorf("%d boards", n)
	}
	if left, err := filepath.Glob(filepath.Join(l.opt.State, "devices", "*")); err != nil || len(left) != 0 {
		t.Errorf("on disk are %d directories, %v", len(left), err)
	}
	// With {boot: IMAGE} they are answered up to a bound, and get nothing on disk
	// before they fetch a file from an address of their own.
	desired := *l.want
	desired.Unknown, desired.UnknownDevice = boot.UnknownBoot, *desired.Devices[serialA]
	l.fleet.Apply(&desired)
	for i := range 4000 {
		s, _ := device.SerialFromUint32(uint32(i + 1))
		l.fleet.Sight(sighting.Sighting{Serial: s, MAC: device.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}})
	}
	if n := len(l.fleet.Boards()); n > 2+2048 {
		t.Errorf("%d boards", n)
	}
	if left, err := filepath.Glob(filepath.Join(l.opt.State, "devices", "*")); err != nil || len(left) != 0 {
		t.Errorf("on disk are %d directories, %v", len(left), err)
	}
	l.boots(serialB, macB, addrB)
}

// A PXE client without a Pi's identity, but with a card of Raspberry Pi's, is
// listed; it is answered only when an entry has its MAC in so many words.
func TestHint(t *testing.T) {
	l := newLab(t)
	l.fleet.Sight(sighting.Sighting{Serial: serialB, MAC: macB}) // it has that MAC
	for name, mac := range map[string]device.MAC{
		"of nobody":                {0xdc, 0xa6, 0x32, 1, 2, 3},
		"of a board that asked":    macB,
		"of a board by its serial": macA,
	} {
		if v := l.fleet.Sight(sighting.Sighting{MAC: mac, Stage: "eeprom", Hint: true}); v.Answer || v.Why == "" {
			t.Errorf("the MAC %s: %+v", name, v)
		}
	}
	l.want.Devices[serialB].MAC = macB
	l.want.ByMAC[macB] = serialB
	l.fleet.Apply(l.want)
	if v := l.fleet.Sight(sighting.Sighting{MAC: macB, Stage: "eeprom", Hint: true}); !v.Answer || v.Serial != serialB {
		t.Errorf("a MAC in devices.yaml: %+v", v)
	}
}
