package handlefs

import (
	"testing"
	"time"

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
		opts       Options
		quota      int64
	}{
		{"ext4", newImage(t, "ext4", t.TempDir(), 400).dir, false, Options{}, 0},
		{"ext4 with a quota", newImage(t, "ext4", t.TempDir(), 400).dir, true, Options{}, 300 << 20},
		{"xfs, and attributes do not age", newImage(t, "xfs", t.TempDir(), 400).dir, false, Options{AttrAge: time.Hour}, 0},
		{"btrfs, and no attributes are remembered", newImage(t, "btrfs", t.TempDir(), 400).dir, true, Options{AttrAge: -1}, 0},
		{"tmpfs with ten descriptors and a quota", tmpfs, true, Options{MaxFDs: 10}, 300 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.base, tt.opts, tt.async, nfstest.Golden(t))
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
