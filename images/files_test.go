package images

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// walk lists what is below the root of a file system, files with their content.
func walk(t *testing.T, f fs.FS) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", d.Type(), path)
		if d.Type().IsRegular() {
			b, err := fs.ReadFile(f, path)
			if err != nil {
				return err
			}
			line += " " + string(b)
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Merged layers are what overlayfs makes of them.
func TestFilesLikeOverlayfs(t *testing.T) {
	dir := t.TempDir()
	sh := func(root, script string) {
		t.Helper()
		for line := range strings.Lines(script) {
			w := strings.Fields(line)
			if len(w) == 0 {
				continue
			}
			p := filepath.Join(root, w[1])
			var err error
			switch w[0] {
			case "write":
				if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
					err = os.WriteFile(p, []byte(w[2]), 0o644)
				}
			case "rm":
				err = os.RemoveAll(p)
			case "link":
				err = os.Symlink(w[2], p)
			case "fifo":
				err = unix.Mkfifo(p, 0o644)
			}
			if err != nil {
				t.Fatal(line, err)
			}
		}
	}
	layers := []string{filepath.Join(dir, "0")}
	if err := os.Mkdir(layers[0], 0o755); err != nil {
		t.Fatal(err)
	}
	sh(layers[0], `write a/one 1
		write a/deep/two 2
		write b/three 3
		write gone 4
		write was/a/file 5
		write dir 6
		write kept/x 7
		link kept/link x
		fifo kept/fifo`)
	for n, script := range []string{
		`rm gone
		rm a/deep
		write a/deep/new 1
		rm was/a
		write was/a now-a-file
		write kept/y 2`,
		`rm b
		write b/other 3
		rm dir
		write dir/below 4
		write gone back
		rm kept/x`,
	} {
		upper, work, root := filepath.Join(dir, fmt.Sprint(n+1)), filepath.Join(dir, fmt.Sprint("work", n)), filepath.Join(dir, fmt.Sprint("root", n))
		for _, d := range []string{upper, work, root} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		lower := slices.Clone(layers)
		slices.Reverse(lower)
		opts := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + work
		if err := unix.Mount("overlay", root, "overlay", 0, opts); err != nil {
			t.Fatalf("mounting an overlay (root is needed): %v", err)
		}
		sh(root, script)
		layers = append(layers, upper)
		down := slices.Clone(layers)
		slices.Reverse(down)
		want, got := walk(t, os.DirFS(root)), walk(t, merged(down))
		if err := unix.Unmount(root, 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d layers:\n%s\noverlayfs has:\n%s", len(layers), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	top := merged{layers[2], layers[1], layers[0]}
	for _, c := range []struct{ name, want string }{
		{"b/three", "no such file"},
		{"kept/x", "not exist"},
		{"kept/fifo", "neither a file"},
		{"../1/gone", "invalid"},
		{"/a/one", "invalid"},
		{"dir/nothing", "no such file"},
	} {
		f, err := top.Open(c.name)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("opening %q: error %v, want %q", c.name, err, c.want)
		}
	}
	for _, out := range []string{"/etc/passwd", "../../../../../../etc/passwd"} {
		if err := os.Symlink(out, filepath.Join(layers[2], "out")); err != nil {
			t.Fatal(err)
		}
		if f, err := top.Open("out"); err == nil {
			f.Close()
			t.Errorf("a link to %q leads out of the layers", out)
		}
		if err := os.Remove(filepath.Join(layers[2], "out")); err != nil {
			t.Fatal(err)
		}
	}
}
