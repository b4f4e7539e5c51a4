package rootfile

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSync: the names in a directory come to the disk together, and no descriptor is left.
func TestSync(t *testing.T) {
	dir := t.TempDir()
	open := func() int {
		t.Helper()
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc/ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := open()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string, want ...string) {
		t.Helper()
		_, err := r.Write(File{Path: path, Data: []byte(text), Mode: 0o644})
		var dirs []string
		for d := range r.unsynced {
			dirs = append(dirs, d)
		}
		slices.Sort(dirs)
		if err != nil || !slices.Equal(dirs, want) {
			t.Errorf("%s written: %v; to come to the disk: %q, want %q", path, err, dirs, want)
		}
	}
	write("/etc/a", "1", "/etc")
	write("/etc/b", "1", "/etc")
	write("/etc/ssh/c", "1", "/etc", "/etc/ssh")
	write("/d", "1", "/", "/etc", "/etc/ssh")
	// A directory that the board moved meanwhile is the one that was written to.
	if err := os.Rename(filepath.Join(dir, "etc/ssh"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(); err != nil {
		t.Error(err)
	}
	write("/etc/a", "1")
	write("/etc/a", "2", "/etc")
	if err := r.Remove("/etc/b"); err != nil || len(r.unsynced) != 1 {
		t.Errorf("removed: %v, %d to come to the disk", err, len(r.unsynced))
	}
	r.Close()
	if now := open(); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}
