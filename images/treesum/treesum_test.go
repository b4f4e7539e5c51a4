package treesum_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func at(t *testing.T, path string, sec, nsec int64) {
	t.Helper()
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// small makes a tree whose listing is written out in TestListing.
func small(t *testing.T) string {
	t.Helper()
	unix.Umask(0o022)
	d := filepath.Join(t.TempDir(), "root")
	p := func(n string) string { return filepath.Join(d, n) }
	must(t, os.MkdirAll(p("b dir"), 0o755))
	must(t, os.WriteFile(p("hello"), []byte("hello\n"), 0o644))
	must(t, os.Chmod(p("hello"), 0o755|os.ModeSetuid))
	must(t, os.Link(p("hello"), p("b dir/again")))
	must(t, os.Symlink("../x y", p("l\n")))
	must(t, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(p("null"), 0o666))
	must(t, unix.Mkfifo(p("pipe"), 0o600))
	must(t, unix.Lsetxattr(p("hello"), "user.b", []byte{0, 255}, 0))
	must(t, unix.Lsetxattr(p("hello"), "trusted.a", nil, 0))
	at(t, p("hello"), -2, 5)
	at(t, p("l\n"), 3, 999999999)
	at(t, p("null"), 4, 0)
	at(t, p("pipe"), 5, 0)
	at(t, p("b dir"), 6, 7)
	at(t, d, 1700000000, 1)
	return d
}

func digest(t *testing.T, dir string) (string, string) {
	t.Helper()
	fd, err := onefs.OpenRoot(dir)
	must(t, err)
	defer unix.Close(fd)
	entries, err := treesum.Tree(t.Context(), fd, nil)
	must(t, err)
	var b bytes.Buffer
	sum, err := treesum.Write(&b, entries)
	must(t, err)
	return sum, b.String()
}

func TestListing(t *testing.T) {
	const want = `rubus-tree-1
d 0755 0 0 1700000000.000000001 .
d 0755 0 0 6.000000007 b\x20dir
f 4755 0 0 -2.000000005 6 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 b\x20dir/again trusted.a= user.b=00ff
h hello b\x20dir/again
l 0777 0 0 3.999999999 l\x0a ../x\x20y
c 0666 0 0 4.000000000 1:3 null
p 0600 0 0 5.000000000 pipe
`
	sum, text := digest(t, small(t))
	if text != want {
		t.Errorf("listing:\n%s\nwant:\n%s", text, want)
	}
	if w := fmt.Sprintf("%x", sha256.Sum256([]byte(want))); sum != w {
		t.Errorf("digest %s, want %s", sum, w)
	}
}

// Every single change of a tree changes its digest, and Diff names it.
func TestEveryChangeCounts(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(d string) error
		want string
	}{
		"content":     {func(d string) error { return os.WriteFile(d+"/hello", []byte("hellO\n"), 0) }, `b\x20dir/again has other content`},
		"mode":        {func(d string) error { return os.Chmod(d+"/pipe", 0o601) }, "pipe has other attributes"},
		"owner":       {func(d string) error { return os.Lchown(d+"/null", 0, 1) }, "null has other attributes"},
		"xattr":       {func(d string) error { return unix.Lsetxattr(d+"/hello", "user.b", []byte{1}, 0) }, `b\x20dir/again has other attributes`},
		"overlay":     {func(d string) error { return unix.Lsetxattr(d, "trusted.overlay.opaque", []byte("y"), 0) }, ". has other attributes"},
		"link target": {func(d string) error { return relink(d+"/l\n", "../z") }, `l\x0a has other attributes`},
		"added":       {func(d string) error { return os.WriteFile(d+"/new", nil, 0o600) }, "new was added"},
		"removed":     {func(d string) error { return os.Remove(d + "/pipe") }, "pipe is missing"},
		"link broken": {func(d string) error { return os.Remove(d + "/hello") }, "hello is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			d := small(t)
			_, before := digest(t, d)
			must(t, c.do(d))
			_, after := digest(t, d)
			diff, err := treesum.Diff(strings.NewReader(before), strings.NewReader(after), 10)
			must(t, err)
			for _, g := range diff {
				if g.String() == c.want {
					return
				}
			}
			t.Errorf("Diff = %v, want %q in it", diff, c.want)
		})
	}
}

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// Content hashes alike whether zeros are written, skipped or holes.
func TestBlocks(t *testing.T) {
	for _, size := range []int64{0, 1, 65536, treesum.BlockSize, treesum.BlockSize + 1, 3*treesum.BlockSize + 77} {
		content := make([]byte, size)
		if size > 2*treesum.BlockSize {
			content[2*treesum.BlockSize] = 1
		}
		every, some := treesum.NewBlocks(size), treesum.NewBlocks(size)
		for off := int64(0); off < size; off += treesum.BlockSize {
			b := content[off:min(off+treesum.BlockSize, size)]
			every.Put(off/treesum.BlockSize, b)
			if bytes.Count(b, []byte{0}) != len(b) {
				some.Put(off/treesum.BlockSize, b)
			}
		}
		if every.Sum() != some.Sum() {
			t.Errorf("%d bytes: %x with zeros put, %x without", size, every.Sum(), some.Sum())
		}
		if want := sha256.Sum256(content); size <= treesum.BlockSize && every.Sum() != want {
			t.Errorf("%d bytes: %x, sha256 is %x", size, every.Sum(), want)
		}
	}
}

func TestTreeSparse(t *testing.T) {
	d := t.TempDir()
	f, err := os.Create(d + "/big")
	must(t, err)
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt([]byte("x"), 5<<30)
	must(t, err)
	must(t, f.Close())
	at(t, d+"/big", 1, 0)
	at(t, d, 1, 0)
	a, _ := digest(t, d)
	must(t, os.WriteFile(d+"/big", nil, 0)) // the same in the same inode
	must(t, os.Truncate(d+"/big", 1<<40))
	at(t, d+"/big", 1, 0)
	if b, _ := digest(t, d); a == b {
		t.Fatal("a byte between holes doesn't count")
	}
}

func FuzzDiff(f *testing.F) {
	f.Add("rubus-tree-1\nd 0755 0 0 1.000000000 .\n", "rubus-tree-1\nh a b\n")
	f.Add("", "rubus-tree-1\nf\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		diff, err := treesum.Diff(strings.NewReader(a), strings.NewReader(b), 5)
		if a == b && err == nil && len(diff) > 0 {
			t.Fatalf("a listing differs from itself: %v", diff)
		}
		for _, d := range diff {
			_ = d.String()
		}
	})
}

// The files of a listing are those of its tree, each inode once.
func TestFiles(t *testing.T) {
	d := t.TempDir()
	must(t, os.WriteFile(d+"/a b\\", []byte("one"), 0o600))
	must(t, os.Link(d+"/a b\\", d+"/other"))
	must(t, os.Mkdir(d+"/d", 0o700))
	must(t, os.WriteFile(d+"/d/\xff", []byte("two!"), 0o600))
	must(t, os.Symlink("nowhere", d+"/l"))
	_, listing := digest(t, d)
	got := map[string]string{}
	must(t, treesum.Files(strings.NewReader(listing), func(path string, size int64, sum treesum.Sum) error {
		got[path] = fmt.Sprintf("%d %x", size, sum)
		return nil
	}))
	want := map[string]string{
		"a b\\":  fmt.Sprintf("3 %x", sha256.Sum256([]byte("one"))),
		"d/\xff": fmt.Sprintf("4 %x", sha256.Sum256([]byte("two!"))),
	}
	if !maps.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	stop := errors.New("enough")
	if err := treesum.Files(strings.NewReader(listing), func(string, int64, treesum.Sum) error { return stop }); err != stop {
		t.Errorf("after an error: %v", err)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("rubus-tree-1\nd 0755 0 0 1.000000000 .\nf 0644 0 0 1.000000000 3 " + strings.Repeat("ab", 32) + " a\\x20b\n")
	f.Add("rubus-tree-1\nf 0644 0 0 1.0 -1 ab a\n")
	f.Add("rubus-tree-1\nf 0644 0 0 1.0 1 " + strings.Repeat("ab", 40) + " a\nf\n")
	f.Fuzz(func(t *testing.T, listing string) {
		_ = treesum.Files(strings.NewReader(listing), func(_ string, size int64, _ treesum.Sum) error {
			if size < 0 {
				t.Errorf("a file of %d bytes", size)
			}
			return nil
		})
	})
}
