// Package leftover removes what a killed process left of a file that it was writing.
package leftover

import (
	"os"
	"path/filepath"
	"strings"
)

// Remove removes files beside path that renameio was writing in its place, in the same
// directory, when its process was killed. Nobody may be writing path meanwhile: it would fail
// to put its file there.
func Remove(path string) error {
	dir, name := filepath.Dir(path), filepath.Base(path)
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		// Its names are a dot, the name, and a number.
		n, ok := strings.CutPrefix(e.Name(), "."+name)
		if !ok || n == "" || strings.Trim(n, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
