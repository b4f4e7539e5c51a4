package boot_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"rubus/config/device"
	"rubus/nfsexport"
)

func TestAsyncIsTheBoardsOwn(t *testing.T) {
	l := newLab(t)
	l.want.Devices[serialA].Async = true
	l.restart()
	a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	if !a.Async || b.Async {
		t.Errorf("asked for async of A alone: A %v, B %v", a.Async, b.Async)
	}
	// What is asked for now holds from the next boot: not for running roots,
	// neither when somebody asks for a file in the board's name nor later.
	l.want.Devices[serialA].Async, l.want.Devices[serialB].Async = false, true
	for _, x := range []nfsexport.Export{a, b} {
		l.clock.add(10 * time.Minute)
		if _, err := l.file(x.Name+"/start.elf", x.Client); err != nil {
			t.Fatal(err)
		}
	}
	for _, restart := range []bool{false, true} {
		if restart {
			l.restart()
		}
		for _, x := range []nfsexport.Export{a, b} {
			if now, ok := l.exp.get(x.ID); !ok || now.Async != x.Async {
				t.Errorf("%s: async was %v, and is %v (after a restart: %v)", x.Name, x.Async, now.Async, restart)
			}
		}
	}
	a, b = l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	if a.Async || !b.Async {
		t.Errorf("after the next boot: A %v, B %v", a.Async, b.Async)
	}
}

// A rubus of today finds what one of the format before wrote: boards run on.
func TestUpgradeOfTheRecord(t *testing.T) {
	l := newLab(t)
	l.want.Devices[serialB].Async = true
	l.opt.InsecurePorts = true
	l.restart()
	a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
	l.write(a, "mine")
	l.write(b, "mine")
	for _, s := range []device.Serial{serialA, serialB} {
		l.toFormat1(s)
	}
	l.opt.InsecurePorts = false
	l.restart()
	for _, old := range []nfsexport.Export{a, b} {
		x, ok := l.exp.get(old.ID)
		x.Activity, x.Quota = old.Activity, old.Quota // counts of a process
		if !ok || !reflect.DeepEqual(x, old) {
			t.Errorf("after the upgrade %s is %+v; it was %+v", old.Name, x, old)
		}
		if !has(x, "mine") {
			t.Errorf("after the upgrade %s has another root", old.Name)
		}
	}
	if st, _ := l.fleet.Board(serialA); st.Problem != "" || l.exp.inDoubt() {
		t.Errorf("after the upgrade: %q", st.Problem)
	}
	if x := l.boots(serialA, macA, addrA); !has(x, "mine") || x.InsecurePorts {
		t.Errorf("the first boot after the upgrade has %+v", x)
	}
}

// toFormat1 writes a board's record as rubus did before slots had options.
func (l *lab) toFormat1(s device.Serial) {
	l.Helper()
	path := filepath.Join(l.opt.State, "devices", s.String(), "device.json")
	b, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(b, &r); err != nil {
		l.Fatal(err)
	}
	r["version"] = 1
	for _, s := range r["slots"].([]any) {
		slot := s.(map[string]any)
		for _, k := range []string{"async", "insecure_ports"} {
			if v, ok := slot[k]; ok {
				r[k] = v
				delete(slot, k)
			}
		}
	}
	if b, err = json.Marshal(r); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		l.Fatal(err)
	}
}

// A boot that was forged to the last packet parks the root of a board that runs
// on it. The board keeps it, through a restart too, until it is known to live on
// another one; and then its writes.
func TestParkedRootIsServedUntilQuiet(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.write(x, "mine")
	l.want.Devices[serialA].Ephemeral = true
	y := l.boots(serialA, macA, addrA)
	if y.ID == x.ID || has(y, "mine") {
		t.Fatalf("made ephemeral, the board boots %s", y.Path)
	}
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	for _, reboot := range []bool{false, true} {
		if reboot {
			l.unmount(x)
		}
		l.restart()
		now, ok := l.exp.get(x.ID)
		if !ok || now.State != nfsexport.Ready || now.Client != addrA || !has(now, "mine") {
			t.Fatalf("after a restart (server rebooted: %v) the root the board may run on is %+v", reboot, now)
		}
		l.clock.add(time.Hour)
		l.fleet.LookAfter(t.Context())
		if _, ok := l.exp.get(x.ID); !ok {
			t.Fatal("the root the board may run on is not served any more: nobody called on the new one")
		}
	}
	now, _ := l.exp.get(y.ID)
	now.Activity.LastCall.Store(l.clock.now().UnixNano())
	for range 2 { // what is given up is not taken up again
		l.fleet.LookAfter(t.Context())
		if _, ok := l.exp.get(x.ID); ok || has(x, "mine") {
			t.Error("a root that the board left is served for ever")
		}
	}
	l.want.Devices[serialA].Ephemeral = false
	z := l.boots(serialA, macA, addrA)
	if z.ID != x.ID || !has(z, "mine") {
		t.Errorf("made persistent again, the board boots %s without its writes", z.Path)
	}
	if st, _ := l.fleet.Board(serialA); st.Problem != "" {
		t.Errorf("problem %q", st.Problem)
	}
}
