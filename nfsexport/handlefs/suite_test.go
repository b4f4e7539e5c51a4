package handlefs

import (
	"testing"

	"rubus/nfsexport/nfstest"
)

func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name, base string
		async      bool
		maxFDs     int
	}{
		{"ext4", t.TempDir(), false, 0},
		{"ext4 with ten descriptors", t.TempDir(), true, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.base, Options{MaxFDs: tt.maxFDs}, tt.async, nil)
			nfstest.Run(t, w.client())
			if n, max := w.OpenFiles(), int(w.cache.max); n > max+4 {
				t.Errorf("%d files are open, more than %d", n, max)
			}
		})
	}
}
