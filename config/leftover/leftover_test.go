package leftover_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/renameio/v2"

	"rubus/config/leftover"
)

// What renameio was writing goes, and nothing else.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	var stay []string
	for _, name := range []string{"file", ".file", ".file.lock", ".file12x", ".files12", "file12"} {
		stay = append(stay, name)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".file7"), 0o700); err != nil {
		t.Fatal(err)
	}
	stay = append(stay, ".file7")
	if _, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir)); err != nil { // and no end to it
		t.Fatal(err)
	}
	if all, _ := os.ReadDir(dir); len(all) != len(stay)+1 {
		t.Fatalf("there are %v", all)
	}
	if err := leftover.Remove(path); err != nil {
		t.Fatal(err)
	}
	var names []string
	all, err := os.ReadDir(dir)
	for _, e := range all {
		names = append(names, e.Name())
	}
	if slices.Sort(stay); err != nil || !slices.Equal(names, stay) {
		t.Errorf("there are %q, %v, want %q", names, err, stay)
	}
	if err := leftover.Remove(filepath.Join(dir, "no/file")); err == nil {
		t.Error("no error where there is no directory")
	}
}
