package bootset

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/boot/bootfs"
)

// TestGolden: a file is a layer's when it is the very file that the topmost layer with its
// name has, and the board wrote nothing there.
func TestGolden(t *testing.T) {
	link := func(from, to string) error { return errors.Join(os.Remove(to), os.Link(from, to)) }
	for name, c := range map[string]struct {
		// change is made to the directories with base, top, upper and root; in root is
		// base's file.
		change func(dir string) error
		want   string // a layer; "": none
	}{
		"of the bottom layer": {nil, "base"},
		"of another version": {func(d string) error {
			write(t, d+"/top/b/x/f", "golden, newer")
			return link(d+"/top/b/x/f", d+"/root/b/x/f")
		}, "top"},
		"of a layer that a newer one hides": {func(d string) error {
			write(t, d+"/top/b/x/f", "golden, newer")
			return nil
		}, ""},
		"hidden by a whiteout": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/top/b/x", 0o755), unix.Mknod(d+"/top/b/x/f", unix.S_IFCHR, 0))
		}, ""},
		"below a file of a newer layer": {func(d string) error {
			write(t, d+"/top/b/x", "no directory")
			return nil
		}, "base"},
		"below a link of a newer layer": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/top/b", 0o755), os.Symlink("../../base/b/x", d+"/top/b/x"))
		}, ""},
		"a newer layer without boot files": {func(d string) error { return os.RemoveAll(d + "/top/b") }, "base"},
		"a newer layer whose boot directory is a link": {func(d string) error {
			return errors.Join(os.RemoveAll(d+"/top/b"), os.Symlink("../base/b", d+"/top/b"))
		}, ""},
		"a layer that is gone": {func(d string) error { return os.RemoveAll(d + "/base") }, ""},
		"written by the board": {func(d string) error {
			write(t, d+"/upper/b/x/f", "golden")
			return nil
		}, ""},
		"removed by the board": {func(d string) error {
			return errors.Join(os.MkdirAll(d+"/upper/b/x", 0o755), unix.Mknod(d+"/upper/b/x/f", unix.S_IFCHR, 0))
		}, ""},
		"other boot files written by the board": {func(d string) error {
			write(t, d+"/upper/b/x/g", "own")
			return nil
		}, "base"},
		"nobody can tell what the board wrote": {func(d string) error { return os.RemoveAll(d + "/upper") }, ""},
		"another file with its content": {func(d string) error {
			write(t, d+"/other", "golden")
			fi, err := os.Stat(d + "/base/b/x/f")
			if err == nil {
				err = os.Chtimes(d+"/other", fi.ModTime(), fi.ModTime())
			}
			return errors.Join(err, link(d+"/other", d+"/root/b/x/f"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := t.TempDir()
			write(t, d+"/base/b/x/f", "golden")
			for _, p := range []string{"top/b", "upper", "root/b/x"} {
				if err := os.MkdirAll(filepath.Join(d, p), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Link(d+"/base/b/x/f", d+"/root/b/x/f"); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				if err := c.change(d); err != nil {
					t.Fatal(err)
				}
			}
			r, err := OpenRoot(Mounted{
				Dir: d + "/root", BootDir: "b", Upper: d + "/upper", Layers: []string{"base", "top"},
				LayerDir: func(digest string) string { return filepath.Join(d, digest) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			f, err := r.Open("x/f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			digest, path, ok := r.Layer("x/f", f)
			if !ok {
				digest = ""
			}
			if digest != c.want || path != "b/x/f" && ok {
				t.Errorf("in layer %q at %q, want %q", digest, path, c.want)
			}
		})
	}
}

// What is being served is not opened again for being looked at, and stays what it was.
func TestLookIsNoOpen(t *testing.T) {
	s := newSource(t)
	f, err := s.Look("Kernel8.IMG")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(filepath.Join(s.root, "b/other"), filepath.Join(s.root, "b/kernel8.img")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := f.ReadAt(b, 0); err != nil || string(b[:n]) != "kernel 1" || f.Size() != 8 {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := unix.Mkfifo(filepath.Join(s.root, "b/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Look("fifo"); !errors.Is(err, bootfs.ErrRefused) {
		t.Errorf("a fifo: %v", err)
	}
	if _, err := s.Look("../" + strings.Repeat("x", 3)); err == nil {
		t.Error("a name that leads out")
	}
}
