package handlefs

import (
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
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
		quota      int64
	}{
		{"ext4", newImage(t, "ext4", t.TempDir(), 400).dir, false, 0, 0},
		{"ext4 with a quota", newImage(t, "ext4", t.TempDir(), 400).dir, true, 0, 300 << 20},
		{"xfs", newImage(t, "xfs", t.TempDir(), 400).dir, false, 0, 0},
		{"btrfs", newImage(t, "btrfs", t.TempDir(), 400).dir, true, 0, 0},
		{"tmpfs with ten descriptors and a quota", tmpfs, true, 10, 300 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.base, Options{MaxFDs: tt.maxFDs}, tt.async, nfstest.Golden(t))
			w.exp.Quota, w.exp.Index = new(nfsexport.Quota), w.ov.Work+"/index"
			w.exp.Quota.Limit(nfsexport.Space{Bytes: tt.quota})
			w.Withdraw(w.exp.ID)
			w.publish(t)
			nfstest.Run(t, w.client(), nil)
			if there, used := w.onDisk(t), w.exp.Quota.Used(); tt.quota > 0 && (used.Bytes-there.Bytes > 1<<20 || there.Bytes-used.Bytes > 1<<20) {
				t.Errorf("counted %+v, and %+v is there", used, there)
			} else {
				t.Logf("counted %+v, and %+v is there", used, there)
			}
			if n, limit := w.OpenFiles(), int(w.cache.max); n > limit+4 {
				t.Errorf("%d files are open, more than %d", n, limit)
			}
			w.Close()
			w.ov.Unmount(t)
			w.ov.Mount(t) // for the cleanup
		})
	}
}
