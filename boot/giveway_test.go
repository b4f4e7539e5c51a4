package boot_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/backup"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/images/upper"
)

// mountsA mounts a root of board A in the background.
func (l *lab) mountsA(path string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := l.fleet.Mount(l.Context(), path, netip.AddrPortFrom(addrA, 700))
		done <- err
	}()
	return done
}

// asksA asks for a file of a new boot of board A in the background.
func (l *lab) asksA() <-chan error {
	done := make(chan error, 1)
	l.clock.add(time.Minute)
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	go func() {
		_, err := l.file(serialA.String()+"/start.elf", addrA)
		done <- err
	}()
	return done
}

// TestCopiesGiveWayToAMount: a board that mounts its root does not wait for a copy of what it
// wrote, whatever that is for, and what the copy was for is not half done.
func TestCopiesGiveWayToAMount(t *testing.T) {
	for name, c := range map[string]struct {
		down bool
		copy func(l *lab, progress func(upper.Size)) error
		want error
		then func(t *testing.T, l *lab)
	}{
		"snapshot": {
			copy: func(l *lab, progress func(upper.Size)) error {
				_, err := l.fleet.Snapshot(l.Context(), serialA, "", progress)
				return err
			},
			want: boot.ErrBoots,
			then: func(t *testing.T, l *lab) {
				if all := l.snapshots(); len(all) != 1 {
					t.Errorf("snapshots %q", all)
				}
			},
		},
		"rebase": {
			down: true,
			copy: func(l *lab, progress func(upper.Size)) error {
				out, err := l.fleet.Rebase(l.Context(), serialA, two(), progress)
				if err == nil && out.State != record.MovePending {
					err = fmt.Errorf("it is %s", out.State)
				}
				return err
			},
			then: func(t *testing.T, l *lab) {
				must(t, l.fleet.Stop(t.Context(), serialA))
				if x := l.boots(serialA, macA, addrA); l.golden(x) != "two" || l.read(x, "mine") != "precious" {
					t.Errorf("the next boot: %q, %q", l.golden(x), l.read(x, "mine"))
				}
			},
		},
		"restore": {
			down: true,
			copy: func(l *lab, progress func(upper.Size)) error {
				return l.fleet.Restore(l.Context(), serialA, 1, progress)
			},
			want: boot.ErrBoots,
			then: func(t *testing.T, l *lab) {
				must(t, l.fleet.Stop(t.Context(), serialA))
				must(t, l.fleet.Restore(t.Context(), serialA, 1, nil))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			x := l.boots(serialA, macA, addrA)
			path := l.statusA().Path
			for i := range 800 {
				l.put(x, fmt.Sprint("file", i), "mine")
			}
			l.put(x, "mine", "precious")
			_, err := l.fleet.Snapshot(t.Context(), serialA, "before", nil)
			must(t, err)
			l.importImage("two")
			if c.down {
				must(t, l.fleet.Stop(t.Context(), serialA))
			}
			var mounted <-chan error
			var once sync.Once
			err = c.copy(l, func(upper.Size) {
				once.Do(func() {
					mounted = l.mountsA(path)
					for !l.fleet.IsNeeded(serialA) {
						runtime.Gosched()
					}
				})
			})
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("a copy that a MOUNT comes into: %v, want %v", err, c.want)
			}
			if err := <-mounted; err != nil {
				t.Fatalf("the MOUNT: %v", err)
			}
			if st := l.statusA(); st.Path != path || st.Running.String() != "lab@1" || !strings.Contains(l.read(x, "mine"), "precious") {
				t.Errorf("it stands on %s of %s", st.Path, st.Running)
			}
			if litter := l.litter(); len(litter) > 0 || l.exp.held != l.exp.released {
				t.Errorf("left behind %q, held %d times, released %d times", litter, l.exp.held, l.exp.released)
			}
			c.then(t, l)
		})
	}
}

// TestRemovalGivesWay: a board that mounts its root does not wait until the files of a snapshot
// are removed, and removed they are.
func TestRemovalGivesWay(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	path := l.statusA().Path
	for i := range 3000 {
		l.put(x, fmt.Sprint("file", i), "")
	}
	_, err := l.fleet.Snapshot(t.Context(), serialA, "", nil)
	must(t, err)
	removed := make(chan error, 1)
	go func() { removed <- l.fleet.RemoveSnapshot(l.Context(), serialA, 1) }()
	for len(l.snapshots()) > 0 {
		runtime.Gosched()
	}
	for range 20 {
		if err := <-l.mountsA(path); err != nil {
			t.Errorf("the MOUNT: %v", err)
		}
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if litter := l.litter(); len(litter) > 0 {
		t.Errorf("left behind %q", litter)
	}
}

// TestBackupGivesWay: a board that boots, or mounts its root, while it is backed up goes on
// before the copy ends, and the backup has it all the same.
func TestBackupGivesWay(t *testing.T) {
	for name, comes := range map[string]func(l *lab, path string) <-chan error{
		"boot":  func(l *lab, _ string) <-chan error { return l.asksA() },
		"mount": func(l *lab, path string) <-chan error { return l.mountsA(path) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			x := l.boots(serialA, macA, addrA)
			path := l.statusA().Path
			for i := range 300 {
				l.put(x, fmt.Sprint("file", i), "mine")
			}
			times := 0
			data, report := l.backup(nil, func(o *backup.Options) {
				o.Again = time.Nanosecond
				o.Progress = func(phase string, _ upper.Size) {
					if phase != serialA.String() {
						return
					}
					if times++; times == 1 {
						if err := <-comes(l, path); err != nil {
							t.Errorf("the board, while the copy stands still: %v", err)
						}
					}
				}
			})
			if len(report.Boards) != 1 || report.Boards[0].Failed != "" || l.exp.held < 2 || l.exp.held != l.exp.released {
				t.Fatalf("held %d times, released %d: %+v", l.exp.held, l.exp.released, report.Boards)
			}
			m := elsewhere(t)
			if _, err := m.restoreBackup(data); err != nil {
				t.Error(err)
			}
		})
	}
}
