package flight

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"rubus/config/device"
)

var (
	begin  = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	us     = netip.MustParseAddr("10.0.0.2")
	router = netip.MustParseAddr("10.0.0.1")
	leased = netip.MustParseAddr("10.0.0.50")
)

// at gives an event its time, in seconds after the boot began.
func at(s float64, e Event) Event {
	e.Time = begin.Add(time.Duration(s * float64(time.Second)))
	return e
}

// boot is a timeline that grows by what usually happens.
type boot []Event

func (b boot) and(e ...Event) boot { return append(append(boot{}, b...), e...) }

func file(s float64, name string, o Outcome) Event {
	return at(s, Event{Kind: File, Name: name, Outcome: o, Size: 1000, Bytes: 1000, Block: 1468, Took: 10 * time.Millisecond})
}

// asked is a board that asked, was answered by us and got an address elsewhere.
func asked(stage string, revision device.Revision) boot {
	return boot{
		at(0, Event{Kind: Discover, Stage: stage, Revision: revision}), at(0, Event{Kind: Offered, Server: us}),
		at(0.5, Event{Kind: Heard, Server: router, Address: leased}),
	}
}

func pi4() boot { return asked("eeprom", 0xd03114) }
func pi5() boot { return asked("eeprom", 0xd04170) }

// loaded is a Pi 4 that has its kernel.
func loaded() boot {
	return pi4().and(
		at(1, Event{Kind: Prepared, Boot: "1234", Name: "kernel8.img", Reports: true}),
		file(1, "start4.elf", Whole), file(1.1, "recovery.elf", Expected), file(2, "config.txt", Whole),
		file(3, "initramfs8", Whole), file(3.1, "bcm2711-rpi-4-b.dtb", Whole), file(4, "kernel8.img", Whole),
	)
}

func mounted() boot {
	return loaded().and(at(9, Event{Kind: Mounted}), at(9.1, Event{Kind: Called}))
}

func TestJudge(t *testing.T) {
	big := func(name string, o Outcome, size, bytes int64, block int, took time.Duration) Event {
		return at(40, Event{Kind: File, Name: name, Outcome: o, Size: size, Bytes: bytes, Block: block, Took: took, Retries: 12})
	}
	spoke := map[string]bool{}
	for _, c := range []struct {
		name   string
		events boot
		over   bool
		now    float64
		rule   string
		grade  Grade
		says   []string
	}{
		{"nothing", nil, false, 0, "nothing", Open, nil},
		{"just asked", pi4(), false, 5, "under-way", Open, []string{"asks for an address"}},
		{"reads files", pi4().and(file(1, "start4.elf", Whole)), false, 20, "under-way", Open, []string{"start4.elf"}},
		{"kernel started", loaded(), false, 20, "under-way", Open, []string{"kernel"}},
		{"mounted", mounted(), false, 20, "under-way", Open, []string{"init"}},
		{"runs, not reported yet", mounted().and(at(12, Event{Kind: Running})), false, 60, "under-way", Open, []string{"not reported"}},
		{"good", mounted().and(at(12, Event{Kind: Running}), at(34, Event{Kind: Good})), false, 60, "good", Well, []string{"12 s", "34 s"}},
		{
			"good on the last good files",
			pi4().and(at(1, Event{Kind: Prepared, LastGood: true, Problem: "kernel8.img is missing"}), at(30, Event{Kind: Good})), false, 60, "good", Well,
			[]string{"last good boot", "kernel8.img is missing"},
		},
		{"no unit", pi4().and(at(1, Event{Kind: Prepared}), at(9, Event{Kind: Mounted}), at(12, Event{Kind: Running})), false, 20, "running", Well, []string{"rubus-booted.service"}},
		{"never reported", mounted().and(at(12, Event{Kind: Running})), false, 700, "not-reported", Bad, []string{"systemctl"}},
		{"reset while it started", mounted().and(at(12, Event{Kind: Running})), true, 60, "not-reported", Bad, []string{"anew"}},
		{"stopped", mounted().and(at(20, Event{Kind: Stopped})), false, 60, "stopped", Bad, nil},
		{"panic", loaded().and(at(8, Event{Kind: Console, Text: "Kernel panic - not syncing: VFS"})), false, 20, "panic", Bad, []string{"VFS"}},
		{"no init", mounted(), false, 120, "no-init", Bad, []string{"/sbin/init"}},
		{"no NFS call", loaded().and(at(9, Event{Kind: Mounted})), false, 120, "nfs-blocked", Bad, []string{"2049"}},
		{"MOUNT refused", loaded().and(at(9, Event{Kind: Refused, Text: "MOUNT from 10.0.0.9: refused"})), false, 120, "mount-refused", Bad, []string{"10.0.0.9"}},
		{"broken boot files", pi5().and(at(1, Event{Kind: Blocked, Text: "kernel_2712.img is missing"}), file(1, "config.txt", Missing)), false, 3, "boot-set", Bad, []string{"kernel_2712.img"}},
		{"96 MB", pi5().and(big("initramfs8", GaveUp, 120_000_000, 65535*1468, 1468, 20*time.Second)), false, 42, "block-counter", Bad, []string{"2025-09-23", "96.2 MB"}},
		{"67 MB by start4.elf", pi4().and(file(1, "start4.elf", Whole), big("kernel8.img", TimedOut, 70_000_000, 65535*1024, 1024, 20*time.Second)), false, 42, "block-counter", Bad, []string{"67.1 MB", "smaller"}},
		{"33 MB on a Pi 3", asked("bootcode", 0).and(big("kernel8.img", TimedOut, 40_000_000, 65535*512, 512, 20*time.Second)), false, 42, "block-counter", Bad, []string{"33.6 MB"}},
		{"too slow", pi4().and(big("kernel8.img", GaveUp, 33_000_000, 20_000_000, 1468, 30*time.Second)), false, 42, "slow-file", Bad, []string{"30 s", "20.0 MB of 33.0 MB", "12 packets"}},
		{"went away", pi4().and(big("kernel8.img", TimedOut, 33_000_000, 2_000_000, 1468, 8*time.Second)), false, 120, "file-lost", Bad, []string{"kernel8.img"}},
		{"read again after all", loaded().and(at(9, Event{Kind: Mounted})).and(), false, 20, "under-way", Open, nil},
		{
			"no initramfs",
			pi4().and(file(1, "start4.elf", Whole), file(2, "initramfs8", Missing), file(4, "kernel8.img", Whole)), false, 120, "no-initramfs", Bad,
			[]string{"initramfs8", "update-initramfs"},
		},
		{"address, no MOUNT", loaded().and(at(10, Event{Kind: Heard, Server: router, Address: leased})), false, 120, "nfs-unreached", Bad, []string{"10.0.0.50", "111"}},
		{"kernel silent", loaded(), false, 120, "kernel-silent", Bad, []string{"kernel8.img", "driver"}},
		{"kernel silent, next boot", loaded(), true, 5, "kernel-silent", Bad, nil},
		{
			"no kernel for a Pi 5",
			pi5().and(file(1, "config.txt", Whole), file(2, "kernel_2712.img", Missing), file(2.1, "kernel8.img", Missing)), false, 120, "no-kernel", Bad,
			[]string{"the Pi 5 asked for kernel_2712.img and kernel8.img", "none"},
		},
		{"no firmware", pi4().and(file(1, "start4.elf", Missing), file(1, "start.elf", Missing)), false, 120, "no-firmware", Bad, []string{"start4.elf and start.elf", "raspi-firmware"}},
		{"no device tree", pi5().and(file(1, "config.txt", Whole), file(2, "bcm2712-rpi-5-b.dtb", Missing)), false, 120, "no-device-tree", Bad, []string{"bcm2712-rpi-5-b.dtb"}},
		{"server's own fault", pi4().and(at(1, Event{Kind: File, Name: "start4.elf", Outcome: Broken, Text: "input/output error"})), false, 120, "file-broken", Bad, []string{"input/output error"}},
		{"stopped reading", pi4().and(file(1, "start4.elf", Whole), file(1, "fixup4.dat", Whole)), false, 120, "stopped-reading", Bad, []string{"fixup4.dat"}},
		{"bootcode.bin alone", asked("pi3-rom", 0).and(file(1, "bootcode.bin", Whole)), false, 120, "stopped-reading", Bad, []string{"DISCOVER of its own"}},
		{"not in devices.yaml", boot{at(0, Event{Kind: Discover}), at(0, Event{Kind: Unanswered, Text: "the device is disabled"})}, false, 1, "unanswered", Bad, []string{"disabled"}},
		{"option 66", pi4().and(at(1, Event{Kind: Heard, Server: router, Address: leased, BootServer: "10.0.0.9"})), false, 60, "option-66", Bad, []string{"10.0.0.1", "10.0.0.9", "10.0.0.2"}},
		{"our own option 66", pi4().and(at(1, Event{Kind: Heard, Server: router, Address: leased, BootServer: "10.0.0.2"})), false, 60, "no-files", Bad, nil},
		{"another boot server", pi4().and(at(1, Event{Kind: Heard, Server: router, PiBoot: true})), false, 60, "other-boot-server", Bad, []string{"10.0.0.1"}},
		{"no address", pi4()[:2], false, 60, "nothing-heard", Bad, []string{"10.0.0.2", "option 66", "rubus doctor"}},
		{"an address of ours", boot{pi4()[0], at(0, Event{Kind: Offered, Server: us, Address: leased})}, false, 60, "no-files", Bad, []string{"69"}},
		{"Pi 3 ROM", asked("pi3-rom", 0).and(at(5, Event{Kind: Discover, Stage: "pi3-rom"})), false, 60, "pi3-rom", Bad, []string{"2 times", "bootcode.bin"}},
		{"no files", pi4(), false, 60, "no-files", Bad, []string{"UDP port 69"}},
	} {
		spoke[c.rule] = true
		v := Judge(Timeline{Begin: begin, Over: c.over, Events: c.events}, begin.Add(time.Duration(c.now*float64(time.Second))))
		if v.Rule != c.rule || v.Grade != c.grade {
			t.Errorf("%s: %s, %s: %q, want %s, %s", c.name, v.Rule, v.Grade, v.Text, c.rule, c.grade)
		}
		for _, w := range c.says {
			if !strings.Contains(v.Text, w) {
				t.Errorf("%s: %q does not say %q", c.name, v.Text, w)
			}
		}
		if strings.ContainsAny(v.Text, "\n\t") || strings.HasSuffix(v.Text, ".") {
			t.Errorf("%s: %q is not one sentence in this command's manner", c.name, v.Text)
		}
	}
	for _, r := range rules() {
		if !spoke[r.name] {
			t.Errorf("no case for the rule %s", r.name)
		}
	}
}

func TestNotes(t *testing.T) {
	up := func(b boot) boot { return b.and(at(50, Event{Kind: Running}), at(60, Event{Kind: Good})) }
	discover := func(f func(*Event)) boot {
		b := loaded()
		f(&b[0])
		return up(b.and(at(9, Event{Kind: Mounted})))
	}
	for _, c := range []struct {
		name   string
		events boot
		says   string // "": no note
	}{
		{"none", up(mounted()), ""},
		{"spanning tree at the kernel", up(loaded().and(at(35, Event{Kind: Heard, Server: router, Address: leased}), at(36, Event{Kind: Mounted}))), "31 s of silence after the kernel"},
		{"spanning tree at bootcode.bin", up(asked("pi3-rom", 0).and(file(1, "bootcode.bin", Whole), at(32, Event{Kind: Discover, Stage: "bootcode"}))), "31 s of silence after bootcode.bin"},
		{"spanning tree at the reboot", discover(func(e *Event) { e.Quiet = 41 * time.Second }), "41 s of silence between"},
		{"switched off for the night", discover(func(e *Event) { e.Quiet = time.Hour }), ""},
		{"old bootloader", discover(func(e *Event) { e.Bootloader = "before 2020-03-04, or DHCP_OPTION97=0" }), "update it"},
		{"new bootloader", discover(func(e *Event) { e.Bootloader = "2022-02-04 or later" }), ""},
		{
			"small blocks", up(pi4().and(at(1, Event{Kind: File, Name: "start4.elf", Outcome: Whole, Bytes: 2_000_000, Block: 1024}))),
			"older than 2022-10-03",
		},
		{"many retries", up(loaded().and(at(4, Event{Kind: File, Name: "x", Outcome: Whole, Bytes: 1_468_000, Block: 1468, Retries: 30}))), "30 packets"},
		{"few retries", up(loaded().and(at(4, Event{Kind: File, Name: "x", Outcome: Whole, Bytes: 14_680_000, Block: 1468, Retries: 30}))), ""},
		{"warned", up(loaded().and(at(4, Event{Kind: Warned, Text: "kernel8.img is large"}))), "kernel8.img is large"},
	} {
		v := Judge(Timeline{Begin: begin, Events: c.events}, begin.Add(time.Hour))
		all := strings.Join(v.Notes, "; ")
		if c.says == "" && all != "" || !strings.Contains(all, c.says) {
			t.Errorf("%s: notes %q, want %q", c.name, all, c.says)
		}
	}
}
