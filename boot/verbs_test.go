package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rubus/boot"
	"rubus/boot/record"
)

// Every verb that changes what a board has, said while the board is up, while nobody can tell,
// when it is down, and again.
func TestVerbsUpAndTwice(t *testing.T) {
	for name, c := range map[string]struct {
		do func(*lab, []byte) error
		// up says that it may be said while the board is up: nothing that the board sees changes.
		up bool
		// again is what it answers the second time; nil: it is done again, or was done.
		again error
		mine  string // what /mine says when it was done twice
	}{
		"snapshot": {up: true, mine: "second", do: func(l *lab, _ []byte) error {
			_, err := l.fleet.Snapshot(l.Context(), serialA, "", nil)
			return err
		}},
		"remove a snapshot": {up: true, mine: "second", again: boot.ErrNotFound, do: func(l *lab, _ []byte) error {
			return l.fleet.RemoveSnapshot(l.Context(), serialA, 2)
		}},
		"backup": {up: true, mine: "second", do: func(l *lab, _ []byte) error {
			_, report := l.backup(nil, nil)
			if why := report.Boards[0].Failed; why != "" {
				return errors.New(why)
			}
			return nil
		}},
		"restore": {mine: "first", do: func(l *lab, _ []byte) error { return l.fleet.Restore(l.Context(), serialA, 1, nil) }},
		"reset":   {mine: "(none)", do: func(l *lab, _ []byte) error { return l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{}) }},
		"reset that keeps": {mine: "second", do: func(l *lab, _ []byte) error {
			return l.fleet.Reset(l.Context(), serialA, boot.ResetOptions{Keep: []string{"mine"}})
		}},
		"replace": {mine: "second", do: func(l *lab, _ []byte) error {
			return l.fleet.Replace(l.Context(), serialA, serialB)
		}},
		"restore of a backup": {mine: "first", do: func(l *lab, full []byte) error {
			_, err := l.restoreBackup(full)
			return err
		}},
		// It is to come at the next boot.
		"rebase": {up: true, mine: "second", do: func(l *lab, _ []byte) error {
			_, err := l.fleet.Rebase(l.Context(), serialA, two(), nil)
			return err
		}},
		"undo of a rebase": {up: true, mine: "second", do: func(l *lab, _ []byte) error {
			_, err := l.fleet.Undo(l.Context(), serialA, nil)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.want.Devices[serialB].Ephemeral = false
			x := l.boots(serialA, macA, addrA)
			l.put(x, "mine", "first")
			full, _ := l.backup(nil, nil)
			for range 2 {
				_, err := l.fleet.Snapshot(t.Context(), serialA, "kept", nil)
				must(t, err)
			}
			l.put(x, "mine", "second")
			l.importImage("two")
			if name == "undo of a rebase" {
				l.calls(x)
				_, err := l.fleet.Rebase(t.Context(), serialA, two(), nil)
				must(t, err)
			}
			path := filepath.Join(l.opt.State, "devices", serialA.String(), "device.json")
			for _, state := range []string{"up", "nobody can tell"} {
				l.calls(x)
				if state != "up" {
					l.clock.add(10 * time.Minute)
					l.link.set(func(k *link) { k.broken = true })
				}
				before, err := os.ReadFile(path)
				must(t, err)
				if c.up && state != "up" {
					continue
				}
				switch err := c.do(l, full); {
				case c.up:
					must(t, err)
				case !errors.Is(err, boot.ErrUp):
					t.Errorf("%s: %v", state, err)
				default:
					after, err := os.ReadFile(path)
					if err != nil || string(after) != string(before) {
						t.Errorf("%s: refused, and its record is another: %v", state, err)
					}
				}
				if now, ok := l.exp.get(x.ID); !ok || now.Client != addrA || l.read(x, "mine") != "second" || l.golden(x) != "one" {
					t.Errorf("%s: the board reads %q and %q of what is published as %+v", state, l.read(x, "mine"), l.golden(x), now)
				}
				l.put(x, "more", "written on")
				if litter := l.litter(); len(litter) > 0 {
					t.Errorf("%s: left behind %q", state, litter)
				}
			}
			l.link.set(func(k *link) { k.broken = false })
			must(t, l.fleet.Stop(t.Context(), serialA))
			must(t, l.fleet.Stop(t.Context(), serialA))
			for i := range 2 {
				err := c.do(l, full)
				if i == 0 && c.up { // it was said before
					if !errors.Is(err, c.again) {
						t.Errorf("said twice: %v, want %v", err, c.again)
					}
					break
				}
				if i == 0 && err != nil || i == 1 && !errors.Is(err, c.again) {
					t.Errorf("said %d times: %v, want %v", i+1, err, c.again)
				}
			}
			if name == "replace" {
				x = l.boots(serialB, macB, addrB)
			} else {
				x = l.boots(serialA, macA, addrA)
			}
			if got := l.read(x, "mine"); got != c.mine {
				t.Errorf("/mine is %q, want %q", got, c.mine)
			}
			if litter := l.litter(); len(litter) > 0 {
				t.Errorf("left behind %q", litter)
			}
			if _, err := record.Uses(l.opt.State); err != nil {
				t.Error(err)
			}
		})
	}
}
