package handlefs

import (
	"os"
	"path/filepath"
	"testing"

	"rubus/nfsexport/nfs3"
)

// TestWaits: a call that copies a golden file up says that it waits before it does, as the
// kernel brings the copy to disk; others say nothing when nothing is to be on disk.
func TestWaits(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		for _, name := range []string{"write", "mode", "size", "cut", "link", "rename", "read"} {
			if err := os.WriteFile(filepath.Join(lower, name), make([]byte, 5000), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name      string
		call      func(c *nfs3.Call, fh []byte) nfs3.Status
		waits     bool
		waitsNext bool // once it is copied up
	}{
		{"write", func(c *nfs3.Call, fh []byte) nfs3.Status {
			_, _, st := w.Write(c, fh, 0, []byte("x"), nfs3.Unstable, new(nfs3.Wcc))
			return st
		}, true, false},
		{"mode", func(c *nfs3.Call, fh []byte) nfs3.Status {
			return w.SetAttr(c, fh, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, new(nfs3.Wcc))
		}, true, false},
		{"size", func(c *nfs3.Call, fh []byte) nfs3.Status {
			return w.SetAttr(c, fh, &nfs3.SetAttr{SetSize: true, Size: 7}, nil, new(nfs3.Wcc))
		}, true, false},
		{"cut", func(c *nfs3.Call, fh []byte) nfs3.Status {
			return w.SetAttr(c, fh, &nfs3.SetAttr{SetSize: true}, nil, new(nfs3.Wcc))
		}, true, false},
		{"link", func(c *nfs3.Call, fh []byte) nfs3.Status {
			w.Remove(&w.call, w.root, "other", new(nfs3.Wcc))
			return w.Link(c, fh, w.root, "other", new(nfs3.PostAttr), new(nfs3.Wcc))
		}, true, false},
		// Whose name is taken away is not asked what it is.
		{"rename", func(c *nfs3.Call, _ []byte) nfs3.Status {
			st := w.Rename(c, w.root, "rename", w.root, "renamed", new(nfs3.Wcc), new(nfs3.Wcc))
			w.Rename(&w.call, w.root, "renamed", w.root, "rename", new(nfs3.Wcc), new(nfs3.Wcc))
			return st
		}, true, true},
		{"read", func(c *nfs3.Call, fh []byte) nfs3.Status {
			_, _, st := w.Read(c, fh, 0, make([]byte, 5000), new(nfs3.PostAttr))
			return st
		}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fh := w.lookup(t, c.name)
			said, before := 0, false
			call := w.call
			call.Waits = func() {
				_, err := os.Lstat(filepath.Join(w.ov.Upper, c.name))
				said, before = said+1, os.IsNotExist(err)
			}
			if st := c.call(&call, fh); st != nfs3.OK || said > 0 != c.waits || before != c.waits {
				t.Errorf("status %d, said %d times, before the copy: %v; want %v", st, said, before, c.waits)
			}
			said = 0
			if st := c.call(&call, fh); st != nfs3.OK || said > 0 != c.waitsNext {
				t.Errorf("then: status %d, said %d times, want %v", st, said, c.waitsNext)
			}
		})
	}
}
