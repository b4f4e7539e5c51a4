package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/images/imageref"
	"rubus/images/rebase"
	"rubus/images/treediff"
	"rubus/images/treesum"
	"rubus/images/upper"
)

// depth is how deep a hostile tree is: a path has nearly the 4,095 bytes that the kernel takes.
const depth = 15

// hostile makes what the root user of a board may make to annoy who reads it.
func hostile(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	at := func(name string) string { return filepath.Join(dir, name) }
	names := []string{"new\nline", "\x1b[31mred", "not \xff utf-8", "-rf", " ", `back\slash`, "tab\there", strings.Repeat("n", 255), ".new-x", ".wh.whiteout", "..."}
	for _, name := range names {
		must(t, os.WriteFile(at(name), []byte("text of "+name), 0o600))
	}
	must(t, os.Link(at("-rf"), at("another name")))
	must(t, os.Mkdir(at("sub\ndir"), 0))
	must(t, os.Link(at("-rf"), at("sub\ndir/a third")))
	f, err := os.Create(at("huge"))
	must(t, err)
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt([]byte("the end of a TiB"), 1<<40-100)
	must(t, errors.Join(err, f.Close()))
	for name, c := range map[string]struct {
		mode uint32
		dev  uint64
	}{
		"fifo": {unix.S_IFIFO, 0}, "null": {unix.S_IFCHR, unix.Mkdev(1, 3)}, "disk": {unix.S_IFBLK, unix.Mkdev(8, 0)}, "socket": {unix.S_IFSOCK, 0},
	} {
		must(t, unix.Mknod(at(name), c.mode|0o666, int(c.dev)))
	}
	must(t, os.Link(at("fifo"), at("fifo again")))
	must(t, os.Symlink("loop", at("loop")))
	must(t, os.Symlink("../../../../etc/shadow", at("out")))
	must(t, os.Symlink(strings.Repeat("x", 4000), at("long link")))
	must(t, os.WriteFile(at("setuid"), nil, 0o755))
	must(t, os.Chmod(at("setuid"), 0o4755|os.ModeSetuid))
	must(t, unix.Setxattr(at("setuid"), "user.note\xff", []byte("a\x00b"), 0))
	must(t, unix.Setxattr(at("setuid"), "trusted.mine", bytes.Repeat([]byte("v"), 1000), 0))
	must(t, os.Chtimes(at("setuid"), time.Unix(-1, 5), time.Unix(1<<33, 7)))
	deep(t, dir, depth)
}

// deep makes a file at the bottom of so many directories with long names.
func deep(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		name := strings.Repeat("d", 240)
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, errors.Join(err, unix.Close(fd)))
		fd = next
	}
	must(t, unix.Mknodat(fd, "bottom", unix.S_IFREG|0o644, 0))
	must(t, unix.Close(fd))
}

// listing is all that can be told of the tree in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	entries, err := treesum.Tree(t.Context(), fd, nil)
	must(t, err)
	var b bytes.Buffer
	_, err = treesum.Write(&b, entries)
	must(t, err)
	return b.String()
}

// What the root user of a board made, names with control characters, paths that no call
// takes, a file of a TiB, devices, is looked at, kept, restored, committed, carried over,
// backed up and brought to another machine, and is the same each time.
func TestHostileUpper(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	hostile(t, filepath.Join(x.Dir, "evil"))
	want := listing(t, filepath.Join(x.Dir, "evil"))
	if !strings.Contains(want, "bottom") || len(want) < 240*depth {
		t.Fatal("the tree is not as hostile as was meant")
	}
	same := func(what, dir string) {
		t.Helper()
		if got := listing(t, dir); got != want {
			d, err := treesum.Diff(strings.NewReader(want), strings.NewReader(got), 5)
			t.Errorf("%s: it has changed: %.500q, %v", what, fmt.Sprint(d), err)
		}
	}
	_, err := l.fleet.Snapshot(t.Context(), serialA, "evil", nil)
	must(t, err)
	full, report := l.backup(nil, nil)
	if report.Boards[0].Failed != "" || len(full) > 8<<20 {
		t.Fatalf("%d bytes: %+v", len(full), report)
	}
	more, _ := l.backup(full, nil)
	must(t, l.fleet.Stop(t.Context(), serialA))

	places, err := writes.Places(l.opt.State, l.store, serialA)
	must(t, err)
	trees, done, err := rebase.Open(places[0].Layers, places[0].UpperDir, places[0].Layers)
	must(t, err)
	changes, err := treediff.Plain(t.Context(), trees.Was, trees.Board)
	must(t, err)
	layer := t.TempDir()
	_, err = upper.Build(t.Context(), layer, upper.Delta{Base: trees.Was, Was: trees.Was, Tree: trees.Board, Changes: changes}, nil)
	must(t, err)
	done()
	same("a layer made of it", filepath.Join(layer, "evil"))

	must(t, l.fleet.Restore(t.Context(), serialA, 1, nil))
	x = l.boots(serialA, macA, addrA)
	same("restored", filepath.Join(x.Dir, "evil"))
	must(t, l.fleet.Stop(t.Context(), serialA))
	l.importImage("two")
	_, err = l.fleet.Rebase(t.Context(), serialA, two(), nil)
	must(t, err)
	x = l.boots(serialA, macA, addrA)
	if l.golden(x) != "two" {
		t.Errorf("it is on %q", l.golden(x))
	}
	same("carried over", filepath.Join(x.Dir, "evil"))
	must(t, l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true, Keep: []string{"evil"}}))
	x = l.boots(serialA, macA, addrA)
	same("kept by a reset", filepath.Join(x.Dir, "evil"))

	n := elsewhere(t)
	_, err = n.restoreBackup(full, more)
	must(t, err)
	x = n.boots(serialA, macA, addrA)
	same("on another machine", filepath.Join(x.Dir, "evil"))
	must(t, n.fleet.Stop(t.Context(), serialA))
	must(t, n.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}))
	for _, s := range n.allSnapshots() {
		must(t, n.fleet.RemoveSnapshot(t.Context(), serialA, s))
	}
	if litter := n.litter(); len(litter) > 0 {
		t.Errorf("left behind %q", litter)
	}
}

// A path that is longer than the kernel takes is refused, and leaves nothing half done; the
// board boots, the others are in the backup, and what it wrote can be thrown away.
func TestTooDeepUpper(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	deep(t, x.Dir, 200)
	l.put(x, "mine", "mine")
	_, err := l.fleet.Snapshot(t.Context(), serialA, "", nil)
	t.Logf("snapshot: %.100v", err)
	if all := l.snapshots(); (err == nil) != (len(all) == 1) || len(l.litter()) > 0 {
		t.Errorf("snapshots %q, left behind %q", all, l.litter())
	}
	_, report := l.backup(nil, nil)
	t.Logf("backup: %.100s", report.Boards[0].Failed)
	must(t, l.fleet.Stop(t.Context(), serialA))
	l.importImage("two")
	_, err = l.fleet.Rebase(t.Context(), serialA, two(), nil)
	t.Logf("rebase: %.100v", err)
	if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "mine" || len(l.litter()) > 0 {
		t.Errorf("after a rebase it has %q; left behind %q", l.read(x, "mine"), l.litter())
	}
	must(t, l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}))
	for _, s := range l.allSnapshots() {
		must(t, l.fleet.RemoveSnapshot(t.Context(), serialA, s))
	}
	if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "(none)" || len(l.litter()) > 0 {
		t.Errorf("after a reset it has %q; left behind %q", l.read(x, "mine"), l.litter())
	}
	// Made when the board is to move already: what is noted of that stays readable.
	l.put(x, "mine", "mine")
	l.importImage("three")
	x.Activity.LastCall.Store(l.clock.now().UnixNano())
	_, err = l.fleet.Rebase(t.Context(), serialA, boot.Order{To: imageref.Ref{Name: "lab", Version: 3}}, nil)
	must(t, err)
	deep(t, x.Dir, 200)
	x = l.boots(serialA, macA, addrA)
	if m := l.move(); m.State != record.MoveFailed || l.read(x, "mine") != "mine" || len(m.Why) > 2048 {
		t.Errorf("it moved at its boot: %s, %d bytes of %.100q", m.State, len(m.Why), m.Why)
	}
	l.restart()
	if x = l.boots(serialA, macA, addrA); l.read(x, "mine") != "mine" {
		t.Errorf("after a restart it has %q", l.read(x, "mine"))
	}
}

// To compare an upper of many files takes memory for their names, not for what they hold.
func TestMemoryOfManyFiles(t *testing.T) {
	const dirs, files = 40, 500 // 20,000
	dir := t.TempDir()
	for _, tree := range []string{"layer/l", "next/l", "board/upper/l", "board/upper/mine"} {
		for d := range dirs {
			at := filepath.Join(dir, tree, fmt.Sprint(d))
			must(t, os.MkdirAll(at, 0o755))
			if tree == "board/upper/l" && d%2 == 1 {
				continue
			}
			for f := range files / 2 {
				p := filepath.Join(at, fmt.Sprintf("a file with a name of some length %d", f))
				must(t, unix.Mknod(p, unix.S_IFREG|0o644, 0))
			}
		}
	}
	must(t, os.MkdirAll(filepath.Join(dir, "board/work"), 0o755))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	trees, done, err := rebase.Open([]string{filepath.Join(dir, "layer")}, filepath.Join(dir, "board"), []string{filepath.Join(dir, "next")})
	must(t, err)
	defer done()
	changes, err := treediff.Plain(t.Context(), trees.Was, trees.Board)
	must(t, err)
	if len(changes) < dirs*files/2 {
		t.Errorf("%d changes", len(changes))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 64<<20 {
		t.Errorf("%d changes are held in %d MiB", len(changes), used>>20)
	}
	runtime.KeepAlive(changes)
}
