package flight

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// small is a directory on a disk of some KiB.
func small(t *testing.T, kib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		t.Fatalf("needs root and a mount namespace of its own: go test -exec scripts/in-ns (%v)", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// A full disk costs a board none of the boots that are on it, and what happens
// when there is space again is recorded.
func TestFullDisk(t *testing.T) {
	dir, serial := small(t, 64), serialOf(t, 1)
	var events boot
	for i := range 5 {
		events = events.and(at(float64(i*1000), Event{Kind: Discover, Stage: "eeprom"}))
	}
	l := Limits{Boots: 10}
	record(t, dir, l, serial, events...)
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for i := range 20 {
		_, _ = ballast.Write(make([]byte, 1<<20)) // as much as there is room for
		record(t, dir, l, serial, at(float64(10000+i*1000), Event{Kind: Discover, Stage: "eeprom"}))
	}
	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	r := record(t, dir, l, serial, at(1e5, Event{Kind: Discover, Stage: "eeprom"}))
	got := boots(t, r, serial)
	if len(got) != 6 || got[0].N != 1 || got[5].N != 6 {
		t.Errorf("%+v", got)
	}
}

// What counts is what files take of the disk, not what is written in them.
func TestShortBootsTakeWholeBlocks(t *testing.T) {
	dir := t.TempDir()
	r := record(t, dir, Limits{BootBytes: 4 << 10, TotalBytes: 200 << 10}, serialOf(t, 0))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 500 {
		r.Note(serialOf(t, i), at(0, Event{Kind: Discover}))
		if err := r.Run(done); err != nil {
			t.Fatal(err)
		}
	}
	files, err := r.store.all()
	if err != nil || len(files) > 50 || len(files) < 10 {
		t.Errorf("%d files in 200 KiB: %v", len(files), err)
	}
	var total int64
	for _, f := range files {
		total += f.size
	}
	if total != r.store.total {
		t.Errorf("it counts %d bytes, there are %d", r.store.total, total)
	}
}
