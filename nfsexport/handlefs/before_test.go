package handlefs

import (
	"os"
	"testing"
	"time"

	"rubus/nfsexport/nfs3"
)

// What a call says was there before is what was there, not what is remembered: a client
// that sees what it knows takes the rest for its own change.
func TestBeforeIsNotRemembered(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, true, func(lower string) {
		write(t, lower+"/f", "golden")
	})
	f := w.lookup(t, "f")
	must(t, os.WriteFile(w.ov.Root+"/f", []byte("longer than golden"), 0o644))
	var c, x nfs3.Wcc
	_, _, st := w.Write(&w.call, f, 0, []byte("L"), nfs3.FileSync, &c)
	if st != nfs3.OK || !c.Before.OK || c.Before.Size != 18 {
		t.Errorf("WRITE: status %v, before %+v", st, c.Before)
	}
	must(t, os.WriteFile(w.ov.Root+"/f", []byte("short"), 0o644))
	if st := w.Commit(&w.call, f, 0, 0, &x); st != nfs3.OK || x.Before.Size != 5 {
		t.Errorf("COMMIT: status %v, before %+v", st, x.Before)
	}
}
