package boot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/identity"
	"rubus/nfsexport"
)

// called is an exporter that answers MOUNTs by itself, and cannot hold who called.
type called struct{ *exporter }

func (c called) Hold(context.Context, nfsexport.ID) (func(), error) {
	return nil, nfsexport.ErrCalled
}

// unasked makes the lab's exporter one.
func (l *lab) unasked() {
	l.Helper()
	e := &exporter{now: map[nfsexport.ID]nfsexport.Export{}, traits: nfsexport.Traits{Unasked: true, RealPath: true, Shared: true}}
	l.start(e, called{e})
}

// A board on a server that is not asked at its MOUNT has its identity before it can call,
// and nobody is told that it cannot be put there while it does.
func TestIdentityUnasked(t *testing.T) {
	l := newLab(t)
	l.unasked()
	l.wishes(identity.File{Path: "/etc/motd", Content: "ours", Mode: 0o644})
	x := l.boots(serialA, macA, addrA)
	for range 2 {
		if got := l.read(x, "etc/motd"); got != "ours" {
			t.Errorf("the board has %q", got)
		}
		if st, _ := l.fleet.Board(serialA); strings.Contains(st.Problem, "identity") {
			t.Errorf("the board's problem: %s", st.Problem)
		}
		x = l.boots(serialA, macA, addrA)
	}
}

// A server that lets go of a root late is waited for; whoever else has it open is not,
// once the export is gone.
func TestUnmountUnasked(t *testing.T) {
	l := newLab(t)
	l.unasked()
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "open")
	f, err := os.Open(filepath.Join(x.Dir, "mine"))
	must(t, err)
	const late = 500 * time.Millisecond
	begin := time.Now()
	time.AfterFunc(late, func() { f.Close() })
	must(t, l.fleet.Stop(t.Context(), serialA))
	if took := time.Since(begin); took < late {
		t.Errorf("stopped after %s, and the root was in use", took)
	}
	if _, err := os.Stat(x.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount point: %v", err)
	}
}

// A board that was given its files may have mounted its root unseen: it counts as up,
// and is let in after a restart, until it is cut off.
func TestStopUnasked(t *testing.T) {
	l := newLab(t)
	l.unasked()
	l.clock.add(time.Minute)
	l.fleet.Sight(boot.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
		t.Fatal(err)
	}
	up := func(want int) {
		t.Helper()
		l.unasked() // a restart
		if got, err := boot.StillUp(t.Context(), l.opt.State, l.link); err != nil || len(got) != want || len(l.exp.now) != want {
			t.Errorf("up: %v, %v; exported: %d, want %d", got, err, len(l.exp.now), want)
		}
	}
	up(1)
	must(t, l.fleet.Stop(t.Context(), serialA))
	up(0)
}
