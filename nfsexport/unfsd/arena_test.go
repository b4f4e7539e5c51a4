package unfsd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
)

// What must never come out of the server: the host's own, and another board's.
const (
	hostSecret  = "SECRET-OF-THE-HOST-5f1c"
	otherSecret = "SECRET-OF-THE-OTHER-BOARD-9b2e"
)

// arena is a server with two boards: A is hostile, B must not notice.
type arena struct {
	*server
	a, b         nfsexport.Export
	rootA, rootB []byte
	files        map[string][]byte // handles of A's, by name
}

// newArena makes A's root dangerous: links that lead out, device nodes, a fifo.
func newArena(t *testing.T, program string) *arena {
	t.Helper()
	host := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(host, []byte(hostSecret), 0o600))
	exports := roots(t, 2, golden)
	x := &arena{a: exports[0], b: exports[1], files: map[string][]byte{}}
	must(t, os.WriteFile(filepath.Join(x.b.Dir, "secret"), []byte(otherSecret), 0o644))
	must(t, unix.Mkfifo(filepath.Join(x.a.Dir, "fifo"), 0o666))
	must(t, unix.Mknod(filepath.Join(x.a.Dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(x.a.Dir, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(t, unix.Mknod(filepath.Join(x.a.Dir, "socket"), unix.S_IFSOCK|0o666, 0))
	must(t, os.Symlink(host, filepath.Join(x.a.Dir, "out")))
	must(t, os.Mkdir(filepath.Join(x.a.Dir, "dir"), 0o777))
	must(t, os.WriteFile(filepath.Join(x.a.Dir, "mine"), []byte("of A"), 0o666))
	x.server = startServer(t, program, spec{Addr: serverAddr, Exports: exports})
	var err error
	x.rootA, err = mountRoot(x.a.Client, x.a.Path)
	must(t, err)
	x.rootB, err = mountRoot(x.b.Client, x.b.Path)
	must(t, err)
	c, err := dial(x.a.Client, 2049, true)
	must(t, err)
	defer c.Close()
	for _, name := range []string{"fifo", "null", "zero", "socket", "out", "dir", "mine", "big", "f0"} {
		x.files[name], err = c.lookup(x.rootA, name)
		must(t, err)
	}
	return x
}

// intact checks that B's tree is as it was, and that B is served.
func (x *arena) intact(t *testing.T, want map[string]string) {
	t.Helper()
	got := tree(t, x.b.Dir)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("B's %s has changed", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("B had %d files and has %d", len(want), len(got))
	}
	c, err := dial(x.b.Client, 2049, true)
	must(t, err)
	defer c.Close()
	if _, err := c.lookup(x.rootB, "secret"); err != nil {
		t.Errorf("B is not served: %v", err)
	}
}

// tree is what lies below a directory: names, with modes and digests of content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if info.Mode().IsRegular() && info.Size() < 1<<20 {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(b)
		}
		out[strings.TrimPrefix(path, dir)] = text
		return nil
	}))
	return out
}

// flipped is a handle with one bit changed.
func flipped(h []byte, bit int) []byte {
	h = bytes.Clone(h)
	h[bit/8] ^= 1 << (bit % 8)
	return h
}

// gone is a handle, sealed as the server seals them, of an export that it does not
// have any more: what a board keeps of a root that was taken away.
func gone(t *testing.T) []byte {
	t.Helper()
	fs, err := handlefs.New(handlefs.Options{Key: serverKey, Seed: 1})
	must(t, err)
	x := roots(t, 1, golden)[0]
	x.ID, x.Activity = 0xdead, new(nfsexport.Activity)
	must(t, fs.Publish(x))
	h, err := fs.RootHandle(x.ID)
	must(t, err)
	must(t, fs.Close())
	return h
}
