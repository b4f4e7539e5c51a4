package attempt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/boot/bootset"
	"rubus/config/device"
)

// TestBegin: which boot files the next boot of a board gets, after what came before.
func TestBegin(t *testing.T) {
	first, second := kernelOf(release, "first"), kernelOf(newer, "second")
	for _, c := range []struct {
		name   string
		before func(l *lab)
		// kernel is the one that the boot gets; "": none that was kept.
		kernel   string
		lastGood bool
		// why, err and warn are in what the boot says; "": it says nothing.
		why, err, warn string
	}{
		{"its own files", func(*lab) {}, first, false, "", "", ""},
		{"no boot directory", func(l *lab) { l.remove("boot") }, "", false, "", "", "boot directory"},
		{"broken, and none was good", func(l *lab) { l.loads(); l.remove(kernel) }, "", false, "no good boot is on record", "kernel8.img, is not there", ""},
		{"broken, and the boot before was good", func(l *lab) { l.isGood(); l.remove(kernel) }, first, true, "kernel8.img, is not there", "", ""},
		{"names a kernel that is not there, and the boot before was good", func(l *lab) {
			l.isGood()
			l.put("boot/firmware/config.txt", "kernel=vmlinuz\n")
		}, first, true, "vmlinuz, is not there", "", ""},
		{"broken, and the good ones have no modules now", func(l *lab) {
			l.isGood()
			l.put("lib/modules/"+newer+"/modules.dep", "")
			l.remove("lib/modules/" + release)
		}, "", false, "; the files of its last good boot do not fit: ", "no modules of it", ""},
		{"broken, and only warned of", func(l *lab) {
			l.opt.WarnOnly = true
			l.put(kernel, kernelOf(newer, "second"))
		}, second, false, "", "", "no modules of it"},
		{"failed once", func(l *lab) { l.isGood(); l.updates("second"); l.loads() }, second, false, "", "", ""},
		{"failed twice", func(l *lab) { l.isGood(); l.updates("second"); l.loads(); l.loads() }, first, true, "2 boots in a row failed", "", ""},
		{"failed twice, and three are asked for", func(l *lab) {
			l.opt.FallbackAfter = 3
			l.isGood()
			l.updates("second")
			l.loads()
			l.loads()
		}, second, false, "", "", ""},
		{"failed twice, and nothing is to fall back", func(l *lab) {
			l.opt.FallbackAfter = 0
			l.isGood()
			l.updates("second")
			l.loads()
			l.loads()
		}, second, false, "", "", ""},
		{"failed twice with the files that were good", func(l *lab) { l.isGood(); l.loads(); l.loads() }, first, false, "", "", ""},
		{"failed twice, and changed since", func(l *lab) {
			l.isGood()
			l.updates("hangs")
			l.loads()
			l.loads()
			l.put(kernel, second)
		}, second, false, "", "", ""},
		{"failed twice, with a process that ended in between", func(l *lab) {
			l.isGood()
			l.updates("second")
			l.loads()
			l.open()
			l.loads()
			l.open()
		}, first, true, "2 boots in a row failed", "", ""},
		{"failed twice, and the good ones have no modules now", func(l *lab) {
			l.isGood()
			l.updates("second")
			l.loads()
			l.loads()
			l.remove("lib/modules/" + release)
		}, second, false, "", "", "the files of its last good boot do not fit"},
		{"its kernel never read", func(l *lab) { l.isGood(); l.updates("second"); l.begins(); l.begins() }, second, false, "", "", ""},
		{"without the unit that reports", func(l *lab) {
			l.isGood()
			l.remove(bootset.BootedUnit)
			l.updates("second")
			l.loads()
			l.loads()
		}, second, false, "", "", ""},
		{"its writes were deleted", func(l *lab) {
			l.isGood()
			if err := l.boots.Forget(); err != nil {
				l.Fatal(err)
			}
			l.remove(kernel)
		}, "", false, "no good boot is on record", "kernel8.img, is not there", ""},
		{"no copies can be made", func(l *lab) {
			if err := errors.Join(os.MkdirAll(l.dir, 0o700), os.WriteFile(filepath.Join(l.dir, "objects"), nil, 0o600)); err != nil {
				l.Fatal(err)
			}
		}, "", false, "", "", "served as they are at each moment"},
		{"nobody knows its model", func(l *lab) { l.on.Models, l.on.Guessed = bootset.Models(0), true }, first, false, "", "", ""},
		{"firmware of no model", func(l *lab) {
			l.on.Models, l.on.Guessed = bootset.Models(0), true
			l.remove("boot/firmware/start.elf")
		}, "", false, "no firmware for any Pi", "no firmware for any Pi", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			c.before(l)
			l.begins()
			b := l.boot
			if got := l.has(); got != c.kernel || b.LastGood != c.lastGood {
				t.Errorf("it gets %q, of the last good boot %v", strings.TrimPrefix(got, strings.Repeat("code ", 1000)), b.LastGood)
			}
			if c.kernel != "" && !slices.Equal(b.Kernels, []string{"kernel8.img"}) {
				t.Errorf("kernels %q", b.Kernels)
			}
			says := func(what, got, want string) {
				if !strings.Contains(got, want) || (want == "") != (got == "") {
					t.Errorf("%s %q, want %q", what, got, want)
				}
			}
			says("why", b.Why, c.why)
			says("warnings", strings.Join(b.Warnings, "; "), c.warn)
			err := ""
			if b.Err != nil {
				err = b.Err.Error()
			}
			says("error", err, c.err)
			// What was begun is what is shown, and remembered.
			st, last := l.boots.Status(), l.boots.Last()
			if st.ID != b.ID || st.LastGood != b.LastGood || st.Why != b.Why || !slices.Equal(st.Warnings, b.Warnings) || !slices.Equal(st.Kernels, b.Kernels) {
				t.Errorf("status %+v of %+v", st, b)
			}
			if again, err := Open(l.opt, l.dir); err != nil || again.Last().ID != b.ID || again.Last().Key != last.Key || last.Slot != 1 || (last.Key == "") != (c.kernel == "") {
				t.Errorf("remembered as %+v, %v", again.Last(), err)
			}
		})
	}
}

// TestResume: a boot that a process began goes on in the next one, on the same files.
func TestResume(t *testing.T) {
	begins := func(l *lab) { l.begins() }
	for _, c := range []struct {
		name string
		// before is what comes before the process ends, after what becomes of the files then.
		before, after func(l *lab)
		kernel        string // "": it is not resumed
		lastGood      bool
	}{
		{"in the middle of a boot", begins, func(*lab) {}, "first", false},
		{"after its kernel was read", func(l *lab) { l.loads() }, func(*lab) {}, "first", false},
		{"its files changed since", begins, func(l *lab) { l.updates("second") }, "first", false},
		{"with the files of the last good boot", func(l *lab) { l.isGood(); l.remove(kernel); l.begins() }, func(*lab) {}, "first", true},
		{"no boot was begun", func(*lab) {}, func(*lab) {}, "", false},
		{"that was good", (*lab).isGood, func(*lab) {}, "", false},
		{"that is over", func(l *lab) { l.begins(); _, _ = l.boots.End() }, func(*lab) {}, "", false},
		{"too long ago", begins, func(l *lab) { l.now = l.now.Add(l.opt.Within) }, "", false},
		{"files that are not kept", func(l *lab) { l.remove("boot"); l.begins() }, func(*lab) {}, "", false},
		{"kept files that are gone", begins, func(l *lab) { _ = os.Remove(filepath.Join(l.dir, "current.json")) }, "", false},
		{"kept files of another boot", begins, func(l *lab) {
			path := filepath.Join(l.dir, "history.json")
			was, err := os.ReadFile(path)
			l.updates("second")
			l.begins()
			if err = errors.Join(err, os.WriteFile(path, was, 0o600)); err != nil {
				l.Fatal(err)
			}
		}, "", false},
		{"begun by this process", begins, func(l *lab) { l.opt.Started = l.boots.Last().Begun }, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			c.before(l)
			was := l.boots.Last()
			l.now = l.now.Add(time.Second)
			l.opt.Started = l.now
			c.after(l)
			l.open()
			b := l.boots.Resume(l.on)
			if b == nil {
				if c.kernel != "" {
					t.Fatal("it is not resumed")
				}
				return
			}
			l.boot = b
			if got := l.has(); !strings.HasSuffix(got, c.kernel) || c.kernel == "" || b.LastGood != c.lastGood || b.ID != was.ID || b.Slot != was.Slot {
				t.Errorf("resumed as %+v of %+v", b, was)
			}
			if st := l.boots.Status(); st.Why != "" || len(st.Kernels) != 1 || !l.boots.IsInterrupted() {
				t.Errorf("status %+v", st)
			}
			if err := l.boots.Fetched("kernel8.img"); err != nil || !l.boots.Last().Loaded {
				t.Errorf("its kernel does not count: %v", err)
			}
		})
	}
}

// TestOpen: what cannot be read counts as no boot, and a set that is not the last boot's is
// none that could be good.
func TestOpen(t *testing.T) {
	l := newLab(t)
	l.loads()
	if err := os.WriteFile(filepath.Join(l.dir, "history.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	boots, err := Open(l.opt, l.dir)
	if err == nil || boots.Last().ID != "" || boots.present != nil {
		t.Errorf("%+v, %v", boots.Last(), err)
	}
	l.boots = boots
	if l.isGood(); l.boots.Status().Good.IsZero() {
		t.Error("the boot after is not good")
	}
}

func TestModels(t *testing.T) {
	serial, err := device.ParseSerial("b8123456")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		rev     device.Revision
		asked   string
		want    string
		guessed bool
	}{
		{"its revision says it", 0xa02082, "start4.elf", "Pi 3B", false},
		{"start4.elf", 0, "START4.elf", "Pi 4", false},
		{"bootcode.bin", 0, "bootcode.bin", "Pi 3", false},
		{"start.elf", 0, "start.elf", "Pi 3", false},
		{"config.txt comes first from the EEPROM of a Pi 5", 0, "config.txt", "Pi 5", false},
		{"another file", 0, "kernel8.img", "Pi 3, Pi 4, Pi 5", true},
		{"a revision that nobody knows", 0x10, "kernel8.img", "Pi 3, Pi 4, Pi 5", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			models, guessed := Models(serial, c.rev, c.asked)
			var names []string
			for _, m := range models {
				names = append(names, m.Name)
				if m.Board.Serial != serial.Uint32() {
					t.Errorf("serial %x", m.Board.Serial)
				}
			}
			if got := strings.Join(names, ", "); got != c.want || guessed != c.guessed {
				t.Errorf("%s, guessed %v", got, guessed)
			}
		})
	}
}
