package handlefs

import (
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfstest"
)

func TestSuite(t *testing.T) {
	tmpfs := t.TempDir()
	if err := unix.Mount("tmpfs", tmpfs, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(tmpfs, unix.MNT_DETACH) })
	for _, tt := range []struct {
		name, base string
		async      bool
		maxFDs     int
	}{
		{"ext4", newImage(t, "ext4", t.TempDir(), 400).dir, false, 0},
		{"xfs", newImage(t, "xfs", t.TempDir(), 400).dir, false, 0},
		{"btrfs", newImage(t, "btrfs", t.TempDir(), 400).dir, true, 0},
		{"tmpfs with ten descriptors", tmpfs, true, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.base, Options{MaxFDs: tt.maxFDs}, tt.async, nfstest.Golden(t))
			nfstest.Run(t, w.client(), nil)
			if n, limit := w.OpenFiles(), int(w.cache.max); n > limit+4 {
				t.Errorf("%d files are open, more than %d", n, limit)
			}
			w.Close()
			w.ov.Unmount(t)
			w.ov.Mount(t) // for the cleanup
		})
	}
}
