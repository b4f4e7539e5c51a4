package onefs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/internal/mounttest"
	"rubus/images/internal/onefs"
)

func openRoot(t *testing.T, dir string) int {
	t.Helper()
	fd, err := onefs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenAtIsConfined(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.Symlink("/etc", filepath.Join(dir, "abs")))
	must(t, os.Symlink("a", filepath.Join(dir, "rel")))
	fd := openRoot(t, dir)
	for path, want := range map[string]error{
		"": nil, "a": nil, "a/b": nil, "a/../a": nil,
		"..": unix.EXDEV, "a/../..": unix.EXDEV, "/": unix.EXDEV, "abs": unix.ELOOP, "abs/passwd": unix.ELOOP, "rel/b": unix.ELOOP, "none": unix.ENOENT,
	} {
		got, err := onefs.OpenAt(fd, path, unix.O_RDONLY, 0)
		if err == nil {
			unix.Close(got)
		}
		if !errors.Is(err, want) {
			t.Errorf("OpenAt(%q): %v, want %v", path, err, want)
		}
	}
}

func TestRemoveAllStaysOnItsMount(t *testing.T) {
	dir := t.TempDir()
	mnt := filepath.Join(dir, "tree/root/proc")
	must(t, os.MkdirAll(mnt, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "tree/root/file"), nil, 0o644))
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "tree/bound"), nil, 0o644))
	mounttest.Run(t, func() {
		if err := errors.Join(
			unix.Mount(outside, mnt, "", unix.MS_BIND, ""),
			unix.Mount(filepath.Join(outside, "keep"), filepath.Join(dir, "tree/bound"), "", unix.MS_BIND, ""),
		); err != nil {
			t.Errorf("planting mounts: %v", err)
			return
		}
		fd := openRoot(t, dir)
		err := onefs.RemoveAll(fd, "tree")
		if !errors.Is(err, onefs.ErrMounted) {
			t.Errorf("RemoveAll with mounts below: %v, want %v", err, onefs.ErrMounted)
		}
		if _, err := os.Stat(filepath.Join(mnt, "keep")); err != nil {
			t.Errorf("what was mounted lost a file: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "tree/root/file")); !os.IsNotExist(err) {
			t.Errorf("a file beside the mount stayed: %v", err)
		}
	})
	if b, err := os.ReadFile(filepath.Join(outside, "keep")); err != nil || string(b) != "x" {
		t.Fatalf("file outside: %q, %v", b, err)
	}
	fd := openRoot(t, dir)
	for range 2 { // safe to repeat
		must(t, onefs.RemoveAll(fd, "tree"))
	}
	if _, err := os.Lstat(filepath.Join(dir, "tree")); !os.IsNotExist(err) {
		t.Fatalf("tree is still there: %v", err)
	}
}

func TestRemoveAllFollowsNoLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "keep"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "tree/link")))
	must(t, os.Symlink(outside, filepath.Join(dir, "top")))
	fd := openRoot(t, dir)
	must(t, onefs.RemoveAll(fd, "tree"))
	must(t, onefs.RemoveAll(fd, "top"))
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Fatal(err)
	}
}

// A tree deeper than PATH_MAX and than any limit of open files goes too.
func TestRemoveAllDeep(t *testing.T) {
	dir := t.TempDir()
	fd := openRoot(t, dir)
	must(t, unix.Mkdirat(fd, "tree", 0o755))
	at, err := onefs.OpenDir(fd, "tree")
	must(t, err)
	name := strings.Repeat("d", 200)
	for range 5000 {
		must(t, unix.Mkdirat(at, name, 0o755))
		next, err := onefs.OpenDir(at, name)
		must(t, err)
		must(t, unix.Close(at))
		at = next
	}
	must(t, unix.Close(at))
	must(t, onefs.RemoveAll(fd, "tree"))
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
}

func TestListAndXattrs(t *testing.T) {
	dir := t.TempDir()
	want := []string{"new\nline", "\xff\xfe", strings.Repeat("x", 255), ".hidden"}
	for _, n := range want {
		must(t, os.WriteFile(filepath.Join(dir, n), nil, 0o644))
	}
	fd := openRoot(t, dir)
	list, err := onefs.List(fd)
	must(t, err)
	var got []string
	for _, e := range list {
		got = append(got, e.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("List = %q, want %q", got, want)
	}
	big := strings.Repeat("v", 3000)
	must(t, unix.Lsetxattr(filepath.Join(dir, ".hidden"), "user.big", []byte(big), 0))
	must(t, unix.Lsetxattr(filepath.Join(dir, ".hidden"), "trusted.x", []byte{0, 1}, 0))
	x, err := onefs.XattrsAt(fd, ".hidden", func(n string) bool { return n != "trusted.x" })
	if err != nil || len(x) != 1 || x["user.big"] != big {
		t.Fatalf("XattrsAt = %.40q, %v", x, err)
	}
	f, err := onefs.OpenAt(fd, ".hidden", unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(f)
	if x, err = onefs.Xattrs(f, nil); err != nil || x["trusted.x"] != "\x00\x01" {
		t.Fatalf("Xattrs = %.40q, %v", x, err)
	}
}
