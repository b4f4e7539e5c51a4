package phase

import (
	"testing"
	"time"
)

func TestEvidence(t *testing.T) {
	t0 := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	l := DefaultLimits()
	for name, c := range map[string]struct {
		e     Evidence
		now   int
		phase Phase
		up    Up
	}{
		"nothing heard": {
			phase: Unseen, up: UpNo,
		},
		"asked for a boot server": {
			e: Evidence{DHCP: at(0), Attempt: at(0)}, now: 1, phase: DHCP, up: UpNo,
		},
		"fetches files": {
			e: Evidence{DHCP: at(0), Attempt: at(0), TFTP: at(5)}, now: 6, phase: TFTP, up: UpNo,
		},
		"the second stage asks again": {
			e: Evidence{DHCP: at(6), Attempt: at(6), TFTP: at(5)}, now: 7, phase: DHCP, up: UpNo,
		},
		"gave up": {
			e: Evidence{DHCP: at(0), Attempt: at(0), TFTP: at(5)}, now: 500, phase: Unseen, up: UpNo,
		},
		"mounted": {
			e:   Evidence{DHCP: at(0), Attempt: at(0), TFTP: at(5), Mounted: at(30), LastCall: at(31), HasRoot: true},
			now: 32, phase: Mounted, up: UpYes,
		},
		"user space": {
			e:   Evidence{DHCP: at(0), Attempt: at(0), TFTP: at(5), Mounted: at(30), InitRead: at(35), LastCall: at(40), HasRoot: true},
			now: 41, phase: Running, up: UpYes,
		},
		"init was read in an earlier boot only": {
			e:   Evidence{Mounted: at(100), InitRead: at(35), LastCall: at(101), HasRoot: true},
			now: 102, phase: Mounted, up: UpYes,
		},
		"idle for six minutes, nobody asked": {
			e:   Evidence{Mounted: at(30), InitRead: at(35), LastCall: at(40), HasRoot: true},
			now: 420, phase: Running, up: UpUnknown,
		},
		"idle for six minutes, answers ARP": {
			e:   Evidence{Mounted: at(30), InitRead: at(35), LastCall: at(40), Answered: at(400), HasRoot: true},
			now: 420, phase: Running, up: UpYes,
		},
		"idle and silent": {
			e:   Evidence{Mounted: at(30), InitRead: at(35), LastCall: at(40), Silent: at(400), HasRoot: true},
			now: 420, phase: Down, up: UpNo,
		},
		"silent, but called since": {
			e:   Evidence{Mounted: at(30), InitRead: at(35), LastCall: at(410), Silent: at(400), HasRoot: true},
			now: 450, phase: Running, up: UpUnknown,
		},
		"silent, but called within the limit": {
			e:   Evidence{Mounted: at(30), LastCall: at(399), Silent: at(400), HasRoot: true},
			now: 405, phase: Mounted, up: UpYes,
		},
		"boots again": {
			e: Evidence{
				Mounted: at(30), InitRead: at(35), LastCall: at(40), Silent: at(400), HasRoot: true,
				DHCP: at(500), Attempt: at(500), TFTP: at(505),
			},
			now: 506, phase: TFTP, up: UpUnknown,
		},
		"adopted after a restart of the daemon, quiet": {
			e: Evidence{Mounted: at(-4000), Adopted: true, HasRoot: true}, now: 0, phase: Mounted, up: UpUnknown,
		},
		"adopted after a restart of the daemon, calls": {
			e:   Evidence{Mounted: at(-4000), Adopted: true, LastCall: at(0), HasRoot: true},
			now: 1, phase: Running, up: UpYes,
		},
		"stopped": {
			e: Evidence{Stopped: at(100)}, now: 200, phase: Stopped, up: UpNo,
		},
		"stopped, then boots": {
			e: Evidence{Stopped: at(100), DHCP: at(150), Attempt: at(150)}, now: 151, phase: DHCP, up: UpNo,
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := at(c.now)
			if got := c.e.Phase(now, l); got != c.phase {
				t.Errorf("phase = %s, want %s", got, c.phase)
			}
			if got := c.e.Up(now, l); got != c.up {
				t.Errorf("up = %s, want %s", got, c.up)
			}
		})
	}
}
