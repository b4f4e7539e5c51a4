package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/config/device"
)

func serialOf(t *testing.T, n int) device.Serial {
	t.Helper()
	s, err := device.ParseSerial(fmt.Sprintf("b812%04x", n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// record has a new recorder on dir write the events of one board.
func record(t *testing.T, dir string, l Limits, serial device.Serial, events ...Event) *Recorder {
	t.Helper()
	r, err := New(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		r.Note(serial, e)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(done); err != nil { // writes what is queued
		t.Fatal(err)
	}
	return r
}

func boots(t *testing.T, r *Recorder, serial device.Serial) []Summary {
	t.Helper()
	all, err := r.Boots(serial, begin.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhereABootBegins(t *testing.T) {
	discover := func(s float64, stage string) Event { return at(s, Event{Kind: Discover, Stage: stage}) }
	for _, c := range []struct {
		name   string
		events boot
		boots  int
	}{
		{"Pi 3: ROM and bootcode.bin", boot{discover(0, "pi3-rom"), file(1, "bootcode.bin", Whole), file(1, "bootsig.bin", Expected), discover(2, "bootcode"), file(3, "start.elf", Whole)}, 1},
		{"Pi 3 that starts anew", boot{discover(0, "pi3-rom"), file(1, "bootcode.bin", Whole), discover(20, "pi3-rom")}, 2},
		{"Pi 3 reset in the middle", boot{discover(0, "bootcode"), file(1, "start.elf", Whole), discover(9, "bootcode")}, 2},
		{"asks again", boot{discover(0, "eeprom"), discover(8, "eeprom"), discover(24, "eeprom")}, 1},
		{"asks again after files", boot{discover(0, "eeprom"), file(1, "start4.elf", Whole), discover(24, "eeprom")}, 2},
		{"reboots", mounted().and(discover(15, "eeprom"), file(16, "start4.elf", Whole)), 2},
		{"silence", boot{discover(0, "eeprom"), discover(300, "eeprom")}, 2},
		{"no DHCP heard", boot{file(0, "start4.elf", Whole), file(1, "kernel8.img", Whole), at(9, Event{Kind: Mounted}), file(60, "start4.elf", Whole)}, 2},
		{"of no boot", boot{at(0, Event{Kind: Running}), at(1, Event{Kind: Refused, Text: "x"})}, 0},
		{"late good", mounted().and(at(600, Event{Kind: Running}), at(660, Event{Kind: Good})), 1},
	} {
		serial := serialOf(t, 1)
		r := record(t, t.TempDir(), Limits{}, serial, c.events...)
		if got := boots(t, r, serial); len(got) != c.boots {
			t.Errorf("%s: %d boots, want %d", c.name, len(got), c.boots)
		}
	}
}

func TestRecorderGoesOnAfterARestart(t *testing.T) {
	dir, serial := t.TempDir(), serialOf(t, 1)
	record(t, dir, Limits{}, serial, mounted()...)
	r := record(t, dir, Limits{}, serial, at(12, Event{Kind: Running}), at(34, Event{Kind: Good}), at(400, Event{Kind: Discover, Stage: "eeprom"}))
	got := boots(t, r, serial)
	if len(got) != 2 || got[0].Verdict.Rule != "good" || !got[0].Begin.Equal(begin) || got[1].N != 2 {
		t.Errorf("boots %+v", got)
	}
	for n, want := range map[int]int{0: 2, -1: 1, 1: 1, 2: 2} {
		tl, err := r.Timeline(serial, n)
		if err != nil || tl.N != want || tl.Over != (want == 1) {
			t.Errorf("boot %d: %+v %v", n, tl, err)
		}
	}
	for _, n := range []int{3, -2} {
		if _, err := r.Timeline(serial, n); !errors.Is(err, ErrNoBoot) {
			t.Errorf("boot %d: %v", n, err)
		}
	}
}

// What is learned of a boot when the next one has begun is in its own record.
func TestLateWord(t *testing.T) {
	dir, serial := t.TempDir(), serialOf(t, 1)
	next := boot{at(100, Event{Kind: Discover, Stage: "eeprom"})}
	for i, kind := range []Kind{Good, Failed} {
		late := at(99, Event{Kind: kind, Boot: "1234"})
		d := filepath.Join(dir, string(kind))
		var r *Recorder
		if i == 0 {
			r = record(t, d, Limits{}, serial, mounted().and(next...).and(late)...)
		} else { // across a restart
			record(t, d, Limits{}, serial, mounted().and(next...)...)
			r = record(t, d, Limits{}, serial, late, at(101, Event{Kind: File, Name: "start4.elf", Outcome: Whole}))
		}
		if got := boots(t, r, serial); len(got) != 2 {
			t.Fatalf("%s: %d boots", kind, len(got))
		}
		first, err := r.Timeline(serial, 1)
		if n := len(first.Events); err != nil || first.Events[n-1].Kind != kind {
			t.Errorf("%s: the first boot ends with %+v", kind, first.Events[n-1])
		}
	}
}

// A transfer that began before the MOUNT is of the boot it began in, whenever its
// end is heard; one that began later is another's.
func TestLateFile(t *testing.T) {
	for name, c := range map[string]struct {
		took  time.Duration
		boots int
	}{
		"began before":         {3 * time.Second, 1},
		"began with the MOUNT": {2 * time.Second, 1},
		"began after":          {time.Second, 2},
	} {
		serial := serialOf(t, 1)
		late := at(11, Event{Kind: File, Name: "kernel8.img", Outcome: Whole, Took: c.took})
		r := record(t, t.TempDir(), Limits{}, serial, mounted().and(late)...)
		if got := boots(t, r, serial); len(got) != c.boots {
			t.Errorf("%s: %d boots", name, len(got))
		}
	}
}

// A crash tears the last line; a disk or a hand may spoil any other.
func TestTornLine(t *testing.T) {
	dir, serial := t.TempDir(), serialOf(t, 1)
	record(t, dir, Limits{}, serial, mounted()...)
	path := filepath.Join(dir, serial.String(), "1.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := len(mounted())
	for cut := len(b) - 1; cut > len(b)-50; cut-- {
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r := record(t, dir, Limits{}, serial, at(12, Event{Kind: Running}))
		tl, err := r.Timeline(serial, 1)
		if n := len(tl.Events); err != nil || n < whole || n > whole+1 || tl.Events[n-1].Kind != Running || !tl.Begin.Equal(begin) {
			t.Fatalf("cut at %d: %d events, %v", cut, n, err)
		}
	}
	if err := os.WriteFile(path, append([]byte(strings.Repeat("x", 3*maxLine)+"\n{\n\x00\n"), b[bytes.IndexByte(b[1:], '\n')+2:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	r := record(t, dir, Limits{}, serial)
	if tl, err := r.Timeline(serial, 1); err != nil || len(tl.Events) != whole || !tl.Begin.Equal(begin) {
		t.Errorf("without its first line: %d events, %v, begin %v", len(tl.Events), err, tl.Begin)
	}
}

func TestBoundsOfABoard(t *testing.T) {
	dir, serial := t.TempDir(), serialOf(t, 1)
	l := Limits{Boots: 3, Events: 20}
	var events boot
	for i := range 10 {
		events = events.and(at(float64(i*1000), Event{Kind: Discover, Stage: "eeprom"}))
		for j := range 100 {
			events = events.and(file(float64(i*1000)+1, fmt.Sprint("x", j), Missing))
		}
		events = events.and(at(float64(i*1000)+5, Event{Kind: Mounted}))
	}
	r := record(t, dir, l, serial, events...)
	got := boots(t, r, serial)
	if len(got) != 3 || got[0].N != 8 || got[2].N != 10 {
		t.Fatalf("kept %+v", got)
	}
	tl, err := r.Timeline(serial, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := len(tl.Events)
	if n != 22 || tl.Events[n-1].Kind != Mounted || tl.Events[n-2].Kind != Lost || tl.Events[n-2].Count != 81 {
		t.Errorf("%d events, the last %+v", n, tl.Events[n-2:])
	}
	long := record(t, dir, l, serial, at(1e5, Event{Kind: Discover, Text: strings.Repeat("\x1b[31m", 1e5)}))
	if tl, _ = long.Timeline(serial, 0); len(tl.Events[0].Text) > maxText || strings.Contains(tl.Events[0].Text, "\x1b") {
		t.Errorf("text %q", tl.Events[0].Text)
	}
}

// However many serials are forged, the disk does not fill, and who boots now is kept.
func TestBoundsOfAll(t *testing.T) {
	dir := t.TempDir()
	l := Limits{BootBytes: 4 << 10, TotalBytes: 200 << 10}
	r := record(t, dir, l, serialOf(t, 0))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 500 {
		r.Note(serialOf(t, i), at(0, Event{Kind: Discover}))
		for j := range 20 {
			r.Note(serialOf(t, i), file(1, fmt.Sprint("file", j), Missing))
		}
		if err := r.Run(done); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	files, err := r.store.all()
	for _, f := range files {
		total += f.size
	}
	if err != nil || total > l.TotalBytes || len(files) < 10 {
		t.Errorf("%d files of %d bytes, limit %d: %v", len(files), total, l.TotalBytes, err)
	}
	if got := boots(t, r, serialOf(t, 499)); len(got) != 1 {
		t.Errorf("the last board has %d boots", len(got))
	}
	if dirs, _ := os.ReadDir(dir); len(dirs) != len(files) {
		t.Errorf("%d directories for %d boots", len(dirs), len(files))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"serial\":\"b8123456\",\"n\":1,\"begin\":\"2026-11-25T10:00:00Z\"}\n{\"time\":\"2026-11-25T10:00:00Z\",\"kind\":\"discover\"}\n"))
	f.Add([]byte("{\"kind\":\"file\",\"size\":-1,\"block\":-5,\"bytes\":9223372036854775807}\n{"))
	f.Add([]byte("\n\n\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tl Timeline
		if err := tl.decode(bytes.NewReader(b), 1<<20); err != nil {
			t.Fatal(err)
		}
		if v := Judge(tl, begin); v.Text == "" {
			t.Error("no verdict")
		}
	})
}
