package nfstest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// golden is the directory of an image that the suite wants to find, from which
// each check takes one part.
const golden = "golden"

// Golden fills a lower layer with what the suite wants to find in an image.
func Golden(t testing.TB) func(lower string) {
	return func(lower string) {
		t.Helper()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		at := func(name string) string { return filepath.Join(lower, golden, name) }
		for _, dir := range []string{"listed", "again", "links", "names", "moved/in"} {
			must(os.MkdirAll(at(dir), 0o755))
		}
		files := []string{"file", "open", "replaced", "again/a", "again/b", "links/one", "names/file", "names/other", "moved/in/file", "moved/file"}
		for i := range 5 {
			files = append(files, fmt.Sprintf("listed/golden%d", i))
		}
		for _, name := range files {
			must(os.WriteFile(at(name), []byte("golden"), 0o644))
		}
		must(os.Symlink("one", at("links/soft")))
		must(os.Link(at("links/one"), at("links/two")))
	}
}

// goldenChecks are about what came with an image, and is changed on an overlay.
// They can run only once on it.
var goldenChecks = []check{
	{"removed while listed, across a restart", func(e *env) {
		// What rm -r does in a directory of 5 golden files and 2,000 new ones, in
		// one pass. Nothing remains, though the server was restarted meanwhile.
		d := golden + "/listed"
		e.fill(d, "new", 2000)
		l, err := e.OpenDir(d)
		e.must(err)
		gone := 0
		for n, restarted := 0, false; ; {
			names, err := l.Next()
			e.must(err)
			if len(names) == 0 {
				break
			}
			for _, n := range names {
				if err := e.Unlink(d + "/" + n.Name); err != unix.ENOENT {
					e.must(err)
					gone++
				}
			}
			if n += len(names); n > 700 && !restarted {
				restarted = true
				e.must(e.restart())
			}
		}
		e.must(l.Close())
		if gone != 2005 {
			e.Errorf("%d of 2005 were listed", gone)
		}
		e.names(d)
		e.must(e.Rmdir(d))
	}},
	{"removed for good", func(e *env) {
		d := golden + "/again"
		removeAll(e.Client, d)
		_, err := e.Lstat(d)
		e.fails(err, unix.ENOENT)
		e.must(e.Mkdir(d, 0o755))
		e.names(d)
		_, err = e.Lstat(d + "/a")
		e.fails(err, unix.ENOENT)
	}},
	{"a name for something else", func(e *env) {
		d := golden + "/names"
		for _, k := range kinds {
			e.must(e.Unlink(d + "/file"))
			e.must(k.make(e, d+"/file"))
			if st := e.stat(d + "/file"); st.Mode&unix.S_IFMT != k.typ {
				e.Errorf("%s has type %o", k.name, st.Mode&unix.S_IFMT)
			}
			if k.typ == unix.S_IFDIR {
				e.names(d + "/file")
				e.must(e.Rmdir(d + "/file"))
				e.must(e.Symlink("x", d+"/file"))
			}
		}
		e.names(d, "file", "other")
	}},
	{"the inode stays when it is changed", func(e *env) {
		p := golden + "/file"
		before := e.stat(p)
		same := func(p, change string) {
			e.Helper()
			if after := e.stat(p); before.Ino != after.Ino || before.Mtim != after.Mtim {
				e.Errorf("%s: inode %d became %d, mtime %v %v", change, before.Ino, after.Ino, before.Mtim, after.Mtim)
			}
		}
		e.must(e.Chmod(p, 0o4711))
		same(p, "chmod")
		e.must(e.Rename(p, p+"2"))
		same(p+"2", "rename")
		e.must(e.Link(p+"2", p))
		same(p, "link")
		e.mode(p, 0o4711)
		e.content(p, "golden")
	}},
	{"hard links are one file", func(e *env) {
		a, b := golden+"/links/one", golden+"/links/two"
		if x, y := e.stat(a), e.stat(b); x.Ino != y.Ino || x.Nlink != 2 {
			e.Errorf("inodes %d and %d, %d links", x.Ino, y.Ino, x.Nlink)
		}
		f, err := e.Open(a, unix.O_RDWR, 0)
		e.must(err)
		e.write(f, 0, "GOLD")
		e.must(f.Sync())
		e.must(f.Close())
		e.content(b, "GOLDen")
		if x, y := e.stat(a), e.stat(b); x.Ino != y.Ino || x.Nlink != 2 {
			e.Errorf("written: inodes %d and %d, %d links", x.Ino, y.Ino, x.Nlink)
		}
		e.must(e.Unlink(a))
		e.content(b, "GOLDen")
		e.must(e.Chown(golden+"/links/soft", alice, bobs))
		e.owner(golden+"/links/soft", alice, bobs)
	}},
	{"a reader sees what is written", func(e *env) {
		p := golden + "/open"
		f, err := e.Open(p, unix.O_RDONLY, 0)
		e.must(err)
		defer f.Close()
		buf := make([]byte, 6)
		_, err = f.ReadAt(buf, 0)
		e.must(err)
		g, err := e.Open(p, unix.O_RDWR, 0)
		e.must(err)
		defer g.Close()
		e.write(g, 0, "gilded")
		if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "gilded" {
			e.Errorf("the reader sees %q, %v", buf, err)
		}
		e.must(e.Truncate(p, 3))
		if n, err := f.ReadAt(buf, 0); err != nil || string(buf[:n]) != "gil" {
			e.Errorf("cut off: the reader sees %q, %v", buf[:n], err)
		}
	}},
	{"replaced", func(e *env) {
		p := golden + "/replaced"
		e.file("new", 0o600, "new")
		e.must(e.Rename(e.p("new"), p))
		e.content(p, "new")
		e.mode(p, 0o600)
		e.must(e.Unlink(p))
		_, err := e.Lstat(p)
		e.fails(err, unix.ENOENT)
	}},
	{"a directory moves or stays", func(e *env) {
		// Without redirect_dir an overlay moves no directory that came with the
		// image, and programs copy it then.
		d := golden + "/moved"
		err := e.Rename(d, golden+"/away")
		e.fails(err, unix.EXDEV, 0)
		if err == nil {
			d = golden + "/away"
		}
		e.names(d, "file", "in")
		e.content(d+"/in/file", "golden")
		if err != nil && slices.Contains(e.list(golden), "away") {
			e.Error("the directory is in two places")
		}
	}},
}
