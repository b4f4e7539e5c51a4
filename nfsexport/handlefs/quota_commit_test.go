package handlefs

import (
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// TestQuotaAfterCommit: what is on disk is counted as it lies there: ext4 and xfs find only when
// they write that the map of a file in pieces needs a block.
func TestQuotaAfterCommit(t *testing.T) {
	for name, mib := range map[string]int64{"ext4": 64, "xfs": 320, "btrfs": 128} {
		t.Run(name, func(t *testing.T) {
			im := newImage(t, name, t.TempDir(), mib)
			w, q := newQuotaWorld(t, im.dir, nfsexport.Space{Bytes: 32 << 20}, func(lower string) {
				write(t, lower+"/golden", string(make([]byte, 1<<20)))
			})
			defer w.Close() // before what it lies on is unmounted
			golden, pieces, stable := w.lookup(t, "golden"), w.create(t, &w.call, "pieces", 0o644), w.create(t, &w.call, "stable", 0o644)
			w.put(golden, 0, 1<<20)
			for i := range uint64(60) {
				w.put(pieces, i*12<<10, 4<<10)
				var wcc nfs3.Wcc
				if _, _, st := w.Write(&w.call, stable, i*12<<10, make([]byte, 4<<10), nfs3.FileSync, &wcc); st != nfs3.OK {
					t.Fatal(st)
				}
			}
			t.Logf("before: counted %+v, and %+v is there", q.Used(), w.onDisk(t))
			for _, f := range [][]byte{golden, pieces} {
				if st := w.Commit(&w.call, f, 0, 0, new(nfs3.Wcc)); st != nfs3.OK {
					t.Fatal(st)
				}
			}
			if q.Used() != w.onDisk(t) {
				t.Errorf("counted %+v, and %+v is there", q.Used(), w.onDisk(t))
			}
		})
	}
}
