package handlefs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
)

// goldenDirs makes an overlay over n directories d0, d1, ...: for one that is removed the
// kernel still tells names.
func goldenDirs(t *testing.T, n int) *world {
	return newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		for i := range n {
			must(t, os.Mkdir(filepath.Join(lower, fmt.Sprintf("d%d", i)), 0o755))
		}
	})
}

// TestRemovedWhileLookedUp: whoever looks for a directory, by name or by handle, at the
// moment when it is removed does not keep it.
func TestRemovedWhileLookedUp(t *testing.T) {
	const dirs = 400
	w := goldenDirs(t, dirs)
	found, kept := 0, 0
	for i := range dirs {
		name := fmt.Sprintf("d%d", i)
		var h []byte
		if i%2 == 0 { // by handle
			h = w.lookup(t, name)
			var k fhandle.Key
			fhandle.Parse(h, &k)
			w.uncache(&k)
		}
		begin := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() {
			c := w.call
			<-begin
			if i%2 == 0 {
				w.GetAttr(&c, h, &nfs3.Attr{})
				return
			}
			var a, da nfs3.PostAttr
			w.Lookup(&c, w.root, name, &h, &a, &da)
		})
		both.Go(func() {
			c := w.call
			<-begin
			if st := w.Rmdir(&c, w.root, name, &nfs3.Wcc{}); st != nfs3.OK {
				t.Errorf("RMDIR: %v", st)
			}
		})
		close(begin)
		both.Wait()
		if len(h) == 0 {
			continue
		}
		found++
		if st := w.GetAttr(&w.call, h, &nfs3.Attr{}); st != nfs3.ErrStale {
			kept++
		}
	}
	if kept > 0 {
		t.Errorf("%d of %d directories are there after they were removed", kept, found)
	}
}

// TestRemovedWhileUsed: a call that is under way keeps a directory no longer than it
// takes, also when others ask for it meanwhile.
func TestRemovedWhileUsed(t *testing.T) {
	w := goldenDirs(t, 1)
	h := w.lookup(t, "d0")
	files := w.OpenFiles()
	c := w.call
	o, st := w.begin(&c, h)
	if st != nfs3.OK {
		t.Fatal(st)
	}
	if st := w.Rmdir(&w.call, w.root, "d0", &nfs3.Wcc{}); st != nfs3.OK {
		t.Fatal(st)
	}
	during := w.GetAttr(&w.call, h, &nfs3.Attr{})
	o.end()
	if st := w.GetAttr(&w.call, h, &nfs3.Attr{}); st != nfs3.ErrStale {
		t.Errorf("%v after the directory was removed, %v before its last call ended", st, during)
	}
	if now := w.OpenFiles(); now != files-1 {
		t.Errorf("%d open files, %d before", now, files)
	}
}
