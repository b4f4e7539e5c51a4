package boot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/backup"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images/archive"
	"rubus/images/imageref"
)

// elsewhere is a lab on another file system, as a new machine has it.
func elsewhere(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("elsewhere", dir, "tmpfs", 0, "size=64m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return newLabIn(t, dir)
}

// backup is all of the lab as a stream that goes on from another; nil: from none.
func (l *lab) backup(since []byte, with func(*backup.Options)) ([]byte, backup.Report) {
	l.Helper()
	o := backup.Options{
		State: l.opt.State, Store: l.store, Head: archive.Head{ID: archive.NewID(), Made: l.clock.now()}, Whole: true, Images: true,
		// All that was written is settled.
		Now:  func() time.Time { return time.Now().Add(time.Hour) },
		Hold: l.fleet.Hold,
	}
	if with != nil {
		with(&o)
	}
	if since != nil {
		r, err := archive.NewLister(bytes.NewReader(since))
		must(l.T, err)
		o.Since = r
	}
	var out bytes.Buffer
	report, err := backup.Write(l.Context(), &out, o)
	must(l.T, err)
	return out.Bytes(), report
}

// readBackup reads a chain of backups.
func (l *lab) readBackup(chain ...[]byte) (*backup.Staged, error) {
	var in []io.Reader
	for _, b := range chain {
		in = append(in, bytes.NewReader(b))
	}
	return backup.Read(l.Context(), in, backup.ReadOptions{State: l.opt.State, Store: l.store})
}

// restoreBackup brings a board back as the command does.
func (l *lab) restoreBackup(chain ...[]byte) (writes.TakenIn, error) {
	s, err := l.readBackup(chain...)
	if err != nil {
		return writes.TakenIn{}, err
	}
	defer func() { must(l.T, s.Close()) }()
	if _, err := s.Adopt(l.Context()); err != nil {
		return writes.TakenIn{}, err
	}
	if _, err := s.BringState(); err != nil {
		return writes.TakenIn{}, err
	}
	return s.Bring(l.Context(), serialA, func(ctx context.Context, serial device.Serial, stage string) (writes.TakenIn, error) {
		dir, ok := backup.TakeInDir(l.opt.State, stage, serial)
		if !ok {
			return writes.TakenIn{}, fmt.Errorf("no stage: %q", stage)
		}
		return l.fleet.TakeIn(ctx, serial, dir)
	})
}

// noStage wants no half of a restore on the disk.
func (l *lab) noStage() {
	l.Helper()
	names, err := os.ReadDir(filepath.Join(l.opt.State, "devices"))
	must(l.T, err)
	for _, e := range names {
		if e.Name()[0] == '.' {
			l.Errorf("left behind: %q", e.Name())
		}
	}
}

// TestMovingHouse: a board that runs is backed up, changed, backed up again; on a new
// machine, with another file system and without its image, it has all it had, twice.
func TestMovingHouse(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "etc/golden", "first")
	l.put(x, "mine", "first")
	must(t, os.Link(filepath.Join(x.Dir, "mine"), filepath.Join(x.Dir, "also")))
	_, err := l.fleet.Snapshot(t.Context(), serialA, "kept", nil)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(l.opt.State, "devices", serialA.String(), "identity"), 0o700))
	must(t, os.WriteFile(filepath.Join(l.opt.State, "devices", serialA.String(), "identity/key"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(l.opt.State, "nfs.key"), []byte("handles"), 0o600))
	held := l.exp.held
	full, report := l.backup(nil, nil)
	if l.exp.held != held+1 || l.exp.released != l.exp.held || len(report.Boards) != 1 || report.Boards[0].Snapshots != 1 || report.Boards[0].Failed != "" {
		t.Errorf("held %d times, released %d: %+v", l.exp.held-held, l.exp.released, report)
	}
	nothing, _ := l.backup(full, nil)
	if len(nothing) > 24<<10 || len(nothing) > len(full)/2 {
		t.Errorf("a backup of what did not change has %d bytes, that of all %d", len(nothing), len(full))
	}
	l.put(x, "mine", "second")
	must(t, os.Remove(filepath.Join(x.Dir, "boot/firmware/bootcode.bin")))
	second, _ := l.backup(nothing, nil)

	n := elsewhere(t)
	if _, err := n.restoreBackup(second); err == nil || !strings.Contains(err.Error(), "goes on from another") {
		t.Errorf("half a chain: %v", err)
	}
	for round := range 2 {
		in, err := n.restoreBackup(full, nothing, second)
		must(t, err)
		if in.New != (round == 0) || in.Snapshots != 1-round {
			t.Errorf("round %d: %+v", round, in)
		}
		n.noStage()
		y := n.boots(serialA, macA, addrA)
		if n.read(y, "mine") != "second" || n.golden(y) != "first" || has(y, "boot/firmware/bootcode.bin") || !has(y, "boot/firmware/start.elf") {
			t.Errorf("round %d: mine %q, golden %q", round, n.read(y, "mine"), n.golden(y))
		}
		a, err := os.Stat(filepath.Join(y.Dir, "mine"))
		must(t, err)
		if b, err := os.Stat(filepath.Join(y.Dir, "also")); err != nil || !os.SameFile(a, b) {
			t.Errorf("a hard link came apart (%v)", err)
		}
		if y.ID == x.ID {
			t.Error("a handle of the old machine is good on the new one")
		}
		x = y
		must(t, n.fleet.Stop(t.Context(), serialA))
	}
	for name, want := range map[string]string{"devices/" + serialA.String() + "/identity/key": "secret", "nfs.key": "handles"} {
		if b, err := os.ReadFile(filepath.Join(n.opt.State, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	// The other image of that name and number stays, and the board has its own.
	if st, _ := n.fleet.Board(serialA); st.Running != (imageref.Ref{Name: "lab", Version: 2}) {
		t.Errorf("it runs %s", st.Running)
	}
	must(t, n.fleet.Restore(t.Context(), serialA, 1, nil))
	if y := n.boots(serialA, macA, addrA); n.read(y, "mine") != "first" || !has(y, "boot/firmware/bootcode.bin") {
		t.Errorf("the snapshot of the old machine has %q", n.read(y, "mine"))
	}
}

// TestRestoreOntoAnUpBoard: a board that is up keeps what it has; one that is down gets the
// backup, and what it had is a snapshot.
func TestRestoreOntoAnUpBoard(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "then")
	full, _ := l.backup(nil, nil)
	l.put(x, "mine", "now")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	if _, err := l.restoreBackup(full); !errors.Is(err, boot.ErrUp) {
		t.Errorf("restored under a running board: %v", err)
	}
	if l.noStage(); l.read(x, "mine") != "now" {
		t.Errorf("a refused restore left %q", l.read(x, "mine"))
	}
	for range 2 {
		must(t, l.fleet.Stop(t.Context(), serialA))
		_, err := l.restoreBackup(full)
		must(t, err)
		if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "then" {
			t.Errorf("it has %q", l.read(x, "mine"))
		}
	}
	all := l.snapshots()
	if len(all) != 2 || all[0] != "1 before a backup was restored" {
		t.Fatalf("snapshots %q", all)
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, l.fleet.Restore(t.Context(), serialA, 1, nil))
	if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "now" {
		t.Errorf("undone, it has %q", l.read(x, "mine"))
	}
}

// TestRestoreKilledAtEveryStep: after a kill at any step the board has what it had, or
// what the backup has; done again, all is there and nothing left over.
func TestRestoreKilledAtEveryStep(t *testing.T) {
	src := newLab(t)
	x := src.boots(serialA, macA, addrA)
	src.put(x, "mine", "of the backup")
	_, err := src.fleet.Snapshot(t.Context(), serialA, "kept", nil)
	must(t, err)
	full, _ := src.backup(nil, nil)
	for name, c := range map[string]struct {
		before string
		steps  int
	}{"new board": {"(none)", 2}, "board with writes": {"of this machine", 5}} {
		for kill := range c.steps + 1 {
			t.Run(fmt.Sprintf("%s/%d", name, kill), func(t *testing.T) {
				l := newLab(t)
				if c.before != "(none)" {
					l.put(l.boots(serialA, macA, addrA), "mine", c.before)
					must(t, l.fleet.Stop(t.Context(), serialA))
				}
				last := l.killedAfter(kill, func() error {
					s, err := l.readBackup(full)
					if err == nil {
						_, err = s.Adopt(t.Context())
					}
					if err == nil {
						_, err = s.Bring(t.Context(), serialA, func(ctx context.Context, serial device.Serial, stage string) (writes.TakenIn, error) {
							dir, _ := backup.TakeInDir(l.opt.State, stage, serial)
							return l.fleet.TakeIn(ctx, serial, dir)
						})
					}
					return err
				})
				if whole := last == ""; whole != (kill == c.steps) {
					t.Fatalf("killed after %d steps, and whole: %v", kill, whole)
				}
				x := l.boots(serialA, macA, addrA)
				got := l.read(x, "mine")
				if got != c.before && got != "of the backup" || last == "" && got != "of the backup" {
					t.Errorf("killed at %q: /mine is %q", last, got)
				}
				must(t, l.fleet.Stop(t.Context(), serialA))
				_, err := l.restoreBackup(full)
				must(t, err)
				if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "of the backup" {
					t.Errorf("killed at %q, done again: /mine is %q", last, l.read(x, "mine"))
				}
				if litter := l.litter(); len(litter) > 0 {
					t.Errorf("killed at %q: left behind %q", last, litter)
				}
				all := l.snapshots()
				if n := len(slices.DeleteFunc(all, func(s string) bool { return !strings.HasSuffix(s, " kept") })); n != 1 {
					t.Errorf("killed at %q: the snapshot of the backup is there %d times", last, n)
				}
			})
		}
	}
}

// TestCopiedState: a plain copy of the state directory loses nothing and mounts nothing
// half: the board says what is wrong, and a backup of the copy brings it back.
func TestCopiedState(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "precious")
	l.put(x, "etc/golden", "copied up")
	must(t, l.fleet.Stop(t.Context(), serialA))
	n := elsewhere(t)
	out, err := exec.Command("cp", "-a", filepath.Join(l.opt.State, "devices"), n.opt.State).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, os.RemoveAll(filepath.Join(n.opt.State, "images")))
	if out, err := exec.Command("cp", "-a", filepath.Join(l.opt.State, "images"), n.opt.State).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.restart()
	n.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	if _, err := n.file(serialA.String()+"/start.elf", addrA); err == nil || !strings.Contains(err.Error(), "is another directory than it was") {
		t.Fatalf("a copied board boots: %v", err)
	}
	full, report := n.backup(nil, nil)
	if len(report.Boards) != 1 || report.Boards[0].Failed != "" {
		t.Fatalf("%+v", report)
	}
	if _, err := n.restoreBackup(full); err != nil {
		t.Fatal(err)
	}
	if y := n.boots(serialA, macA, addrA); n.read(y, "mine") != "precious" || n.golden(y) != "copied up" {
		t.Errorf("it has %q and %q", n.read(y, "mine"), n.golden(y))
	}
}

// TestBackupOfABoardOnTrial: a board that tries another version has, on another machine, what
// it tries, and what it had before as a snapshot.
func TestBackupOfABoardOnTrial(t *testing.T) {
	l, _, x := upLab(t)
	l.put(x, "mine", "second")
	y := l.loads()
	l.put(y, "mine", "third")
	full, _ := l.backup(nil, nil)
	n := elsewhere(t)
	for range 2 {
		_, err := n.restoreBackup(full)
		must(t, err)
		must(t, n.fleet.Sweep(t.Context()))
		n.fleet.LookAfter(t.Context())
		z := n.boots(serialA, macA, addrA)
		if n.golden(z) != "two" || n.read(z, "mine") != "third" {
			t.Errorf("it has %q and %q", n.golden(z), n.read(z, "mine"))
		}
		must(t, n.fleet.Stop(t.Context(), serialA))
	}
	all := n.snapshots()
	if len(all) < 2 || !strings.Contains(strings.Join(all, ", "), record.RebaseNote+"lab@2") {
		t.Errorf("what it had is none of %q", all)
	}
}

// TestBackupLeavesTheReserve: neither what is copied of a board nor what is read of a backup
// takes the space that is kept for others; nothing is left over.
func TestBackupLeavesTheReserve(t *testing.T) {
	l := elsewhere(t) // a tmpfs of 64 MiB
	x := l.boots(serialA, macA, addrA)
	l.put(x, "big", strings.Repeat("rubus board ", 1<<20))
	_, report := l.backup(nil, func(o *backup.Options) { o.Reserve = 44 << 20 })
	if len(report.Boards) != 1 || !strings.Contains(report.Boards[0].Failed, writes.ErrNoSpace.Error()) {
		t.Errorf("a copy that takes the reserve: %+v", report)
	}
	full, report := l.backup(nil, nil)
	if report.Boards[0].Failed != "" {
		t.Fatalf("%+v", report)
	}
	n := elsewhere(t)
	_, err := backup.Read(t.Context(), []io.Reader{bytes.NewReader(full)}, backup.ReadOptions{State: n.opt.State, Store: n.store, Reserve: 56 << 20})
	if !errors.Is(err, writes.ErrNoSpace) {
		t.Errorf("read into the reserve: %v", err)
	}
	n.noStage()
}

// TestBackupOfABrokenBoard: a board that cannot be read is named, and the others are in the
// backup; restored, it has what an earlier backup has of it.
func TestBackupOfABrokenBoard(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.boots(serialB, macB, addrB)
	l.put(x, "mine", "good")
	full, _ := l.backup(nil, nil)
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, os.WriteFile(filepath.Join(l.opt.State, "devices", serialA.String(), "device.json"), []byte("{"), 0o600))
	more, report := l.backup(full, nil)
	for _, b := range report.Boards {
		if (b.Failed != "") != (b.Serial == serialA) {
			t.Errorf("board %s: %q", b.Serial, b.Failed)
		}
	}
	n := elsewhere(t)
	s, err := n.readBackup(full, more)
	must(t, err)
	if len(s.Boards) != 2 || s.Boards[1].Serial != serialA || !strings.Contains(s.Boards[1].Stale, "record") || s.Boards[1].Problem != "" {
		t.Errorf("%+v", s.Boards)
	}
	must(t, s.Close())
	_, err = n.restoreBackup(full, more)
	must(t, err)
	if y := n.boots(serialA, macA, addrA); n.read(y, "mine") != "good" {
		t.Errorf("it has %q", n.read(y, "mine"))
	}
	alone, _ := l.backup(nil, nil)
	s, err = n.readBackup(alone)
	must(t, err)
	if !strings.Contains(s.Boards[1].Problem, "has nothing of it") {
		t.Errorf("%+v", s.Boards)
	}
	must(t, s.Close())
}
