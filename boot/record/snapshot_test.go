package record

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestListSnapshotsWhileTheyGo: those that are removed meanwhile are not there, and are no error;
// one without its file is.
func TestListSnapshotsWhileTheyGo(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	const many = 500
	for n := 1; n <= many; n++ {
		at := filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, SnapshotFile), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	removed := make(chan error, 1)
	go func() {
		for n := many; n > 0; n-- {
			name := strconv.Itoa(n)
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
				removed <- err
				return
			}
		}
		removed <- nil
	}()
	for last := many; last > 0; {
		all, err := ListSnapshots(dir)
		if err != nil || len(all) > last {
			t.Fatalf("%d after %d: %v", len(all), last, err)
		}
		last = len(all)
	}
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ListSnapshots(dir); err == nil {
		t.Error("a snapshot without its file is one")
	}
}
