package attempt

import (
	"strings"
	"testing"
	"time"

	"rubus/boot/bootset"
)

// TestEnd: whether a boot failed is judged when the next one begins.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(l *lab)
		text   string // "": it did not fail
		inARow int
	}{
		{"no boot before", func(*lab) {}, "", 0},
		{"its kernel never read", func(l *lab) { l.begins() }, "", 0},
		{"its kernel read, and no report", func(l *lab) { l.loads() }, "the next boot began before", 1},
		{"twice in a row", func(l *lab) { l.loads(); l.loads() }, "2 boots in a row", 2},
		{"with other files than the time before", func(l *lab) { l.loads(); l.updates("second"); l.loads() }, "the next boot began before", 1},
		{"after a good one", func(l *lab) { l.loads(); l.isGood(); l.loads() }, "the next boot began before", 1},
		{"good", (*lab).isGood, "", 0},
		{"judged already", func(l *lab) { l.loads(); _, _ = l.boots.End() }, "", 0},
		{"without the unit that reports", func(l *lab) { l.remove(bootset.BootedUnit); l.loads() }, "", 0},
		{"with the files of the last good boot", func(l *lab) { l.isGood(); l.updates("hangs"); l.loads(); l.loads(); l.loads() }, "the next boot began before", 2},
		{"forgotten", func(l *lab) { l.loads(); _ = l.boots.Forget() }, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			c.before(l)
			last := l.boots.Last()
			failed, err := l.boots.End()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case failed == nil && c.text == "":
			case failed == nil || c.text == "":
				t.Errorf("%+v", failed)
			case failed.Boot != last.ID || failed.InARow != c.inARow || failed.LastGood != last.LastGood || !strings.HasPrefix(failed.Text(), c.text):
				t.Errorf("%+v: %s", failed, failed.Text())
			}
			if again, err := l.boots.End(); again != nil || err != nil {
				t.Errorf("judged twice: %+v, %v", again, err)
			}
		})
	}
}

// TestLook: what makes a boot good, and when that is looked at.
func TestLook(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  func(l *lab) // nil: the boot's own id
		seen  func(l *lab, s *Seen)
		after func(l *lab) // the first look, at what the board had not said yet; nil: none
		good  bool
	}{
		{name: "its own id", good: true},
		{name: "another boot's", says: func(l *lab) { l.says("0123456789abcdef") }},
		{name: "nothing", says: func(*lab) {}},
		{name: "without the unit that reports", says: func(l *lab) { l.remove(bootset.BootedUnit); l.loads(); l.says(l.boot.ID) }, seen: func(l *lab, s *Seen) { s.Mounted = l.now }},
		{name: "as many calls as the boot before", after: func(l *lab) { l.loads() }, seen: func(l *lab, s *Seen) { s.Mounted = l.now }, good: true},
		{name: "not mounted yet", seen: func(l *lab, s *Seen) { s.Mounted = l.boots.Last().Begun.Add(-time.Second) }},
		{name: "never called", seen: func(_ *lab, s *Seen) { s.Calls = 0 }},
		{name: "never called, and over", seen: func(_ *lab, s *Seen) { s.Calls, s.Over = 0, true }, good: true},
		{name: "no call since the last look", after: func(*lab) {}},
		{name: "no call since the last look, and over", after: func(*lab) {}, seen: func(_ *lab, s *Seen) { s.Over = true }, good: true},
		{name: "called since the last look", after: func(*lab) {}, seen: func(_ *lab, s *Seen) { s.Calls++ }, good: true},
		{name: "long after its MOUNT, soon after the last look", after: func(*lab) {}, seen: func(l *lab, s *Seen) {
			s.Calls++
			s.Mounted = l.now
			l.now = l.now.Add(reportSoon + time.Second)
			if good, err := l.boots.Look(Seen{Root: "/none", Mounted: s.Mounted, Calls: 2}); good != nil || err != nil {
				l.Fatal(good, err)
			}
			s.Calls++
			l.now = l.now.Add(reportLater - time.Second)
		}},
		{name: "long after its MOUNT, a minute after the last look", after: func(l *lab) { l.now = l.now.Add(reportSoon + time.Second) }, seen: func(_ *lab, s *Seen) { s.Calls++ }, good: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.loads()
			s := l.seen()
			if c.after != nil {
				if good, err := l.boots.Look(s); good != nil || err != nil {
					t.Fatal(good, err)
				}
				c.after(l)
			}
			if c.says != nil {
				c.says(l)
			} else {
				l.says(l.boot.ID)
			}
			if c.seen != nil {
				c.seen(l, &s)
			}
			good, err := l.boots.Look(s)
			if err != nil || (good != nil) != c.good || l.boots.Last().Good.IsZero() == c.good {
				t.Fatalf("%+v, %v", good, err)
			}
			kept, err := l.boots.store.LastGood()
			if err != nil || (kept != nil) != c.good {
				t.Errorf("kept as good: %v, %v", kept, err)
			}
			if !c.good {
				return
			}
			if good.Boot != l.boot.ID || good.After != good.At.Sub(l.boots.Last().Begun) || kept.Key != l.boots.Last().Key {
				t.Errorf("%+v", good)
			}
			s.Calls, s.Over = s.Calls+1, true
			if again, err := l.boots.Look(s); again != nil || err != nil {
				t.Errorf("good twice: %+v, %v", again, err)
			}
		})
	}
}

// TestFetched: only the kernel that a boot was given makes it one that can fail.
func TestFetched(t *testing.T) {
	l := newLab(t)
	if err := l.boots.Fetched("kernel8.img"); err != nil || l.boots.Last().Loaded {
		t.Errorf("before any boot: %v", err)
	}
	l.begins()
	for name, want := range map[string]bool{"start.elf": false, "kernel7.img": false} {
		if err := l.boots.Fetched(name); err != nil || l.boots.Last().Loaded != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.boots.Fetched("Kernel8.IMG"); err != nil || !l.boots.Last().Loaded {
		t.Errorf("its kernel: %v", err)
	}
	if again, err := Open(l.opt, l.dir); err != nil || !again.Last().Loaded {
		t.Errorf("not on disk: %v", err)
	}
}
