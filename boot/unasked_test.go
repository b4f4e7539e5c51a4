package boot_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot/identity"
	"rubus/boot/sighting"
	"rubus/boot/survivors"
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

// A board that runs and does not answer at its address, and is heard at another, may come
// from both: which one it is, it says by calling.
func TestFollowUnasked(t *testing.T) {
	l := newLab(t)
	l.unasked()
	x := l.boots(serialA, macA, addrA)
	mounted, _ := l.fleet.Board(serialA)
	other := netip.MustParseAddr("10.77.0.60")
	l.link.set(func(n *link) {
		delete(n.owners, addrA)
		n.owners[other] = macA
	})
	l.clock.add(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.fleet.Run(ctx) }()
	awaited := func() []netip.Addr {
		now, _ := l.exp.get(x.ID)
		if now.Client != addrA && now.Client != other {
			t.Errorf("exported to %s", now.Client)
		}
		return now.Awaited
	}
	for end := time.Now().Add(20 * time.Second); len(awaited()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the board is not awaited at its other address")
		}
	}
	cancel()
	must(t, <-done)
	l.published(x.ID, addrA)
	x.Activity.LastCall.Store(l.clock.now().Add(time.Second).UnixNano())
	// The cable is in again; the board is where it was.
	l.link.set(func(n *link) { n.owners[addrA] = macA })
	l.fleet.Seen(t.Context(), x.ID, addrA)
	if l.published(x.ID, addrA); len(awaited()) != 1 {
		t.Errorf("awaited at %v", awaited())
	}
	l.fleet.Seen(t.Context(), x.ID, other)
	if l.published(x.ID, other); len(awaited()) != 0 {
		t.Errorf("awaited at %v", awaited())
	}
	if now, _ := l.fleet.Board(serialA); !now.Evidence.Mounted.Equal(mounted.Evidence.Mounted) || now.Address != other {
		t.Errorf("the board is at %s, mounted %s, before %s", now.Address, now.Evidence.Mounted, mounted.Evidence.Mounted)
	}
}

// A board that was given its files may have mounted its root unseen: it counts as up,
// and is let in after a restart, until it is cut off.
func TestStopUnasked(t *testing.T) {
	l := newLab(t)
	l.unasked()
	l.clock.add(time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	if _, err := l.file(serialA.String()+"/start.elf", addrA); err != nil {
		t.Fatal(err)
	}
	up := func(want int) {
		t.Helper()
		l.unasked() // a restart
		if got, err := survivors.Find(t.Context(), l.opt.State, l.link); err != nil || len(got) != want || len(l.exp.now) != want {
			t.Errorf("up: %v, %v; exported: %d, want %d", got, err, len(l.exp.now), want)
		}
	}
	up(1)
	must(t, l.fleet.Stop(t.Context(), serialA))
	up(0)
}
