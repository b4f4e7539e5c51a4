package rootfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/boot/rootfile"
)

// place is a root with a directory beside it that nobody may reach.
func place(t *testing.T) (root, outside string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes owners: run it as root, by scripts/test")
	}
	dir := t.TempDir()
	root, outside = filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(root, "etc"), outside} {
		must(t, os.MkdirAll(d, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(outside, "motd"), []byte("the host's"), 0o644))
	return root, outside
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *rootfile.Root {
	t.Helper()
	r, err := rootfile.Open(dir)
	must(t, err)
	t.Cleanup(r.Close)
	return r
}

func TestWrite(t *testing.T) {
	dir, _ := place(t)
	r := open(t, dir)
	f := rootfile.File{Path: "/etc/motd", Data: []byte("hello\n"), Mode: 0o640, UID: 7, GID: 8}
	for i, want := range []bool{true, false} {
		if changed, err := r.Write(f); err != nil || changed != want {
			t.Fatalf("time %d: changed %v, %v", i, changed, err)
		}
	}
	data, info, err := r.Read(f.Path, 100)
	if err != nil || string(data) != "hello\n" || info.Mode != 0o640 || info.UID != 7 || info.GID != 8 {
		t.Errorf("%q %+v %v", data, info, err)
	}
	// Each part of what it is to be counts.
	for name, change := range map[string]func(*rootfile.File){
		"content": func(f *rootfile.File) { f.Data = []byte("hellO\n") }, "size": func(f *rootfile.File) { f.Data = nil },
		"mode": func(f *rootfile.File) { f.Mode = 0o600 }, "owner": func(f *rootfile.File) { f.UID = 9 }, "group": func(f *rootfile.File) { f.GID = 9 },
	} {
		_, err := r.Write(f)
		must(t, err)
		g := f
		change(&g)
		if changed, err := r.Write(g); err != nil || !changed {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
		if changed, err := r.Write(g); err != nil || changed {
			t.Errorf("%s again: changed %v, %v", name, changed, err)
		}
	}
	if names, _ := os.ReadDir(filepath.Join(dir, "etc")); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// Directories that are made belong to whom the one above belongs.
func TestDirectories(t *testing.T) {
	dir, _ := place(t)
	must(t, os.Chown(filepath.Join(dir, "etc"), 5, 6))
	r := open(t, dir)
	_, err := r.Write(rootfile.File{Path: "/etc/a/b/c", Mode: 0o644})
	must(t, err)
	for _, p := range []string{"/etc/a", "/etc/a/b"} {
		info, err := r.Stat(p)
		if err != nil || info.Mode != fs.ModeDir|0o755 || info.UID != 5 || info.GID != 6 {
			t.Errorf("%s: %+v %v", p, info, err)
		}
	}
	must(t, r.Mkdir("/etc/.ssh", 0o700, 1, 2))
	must(t, r.Mkdir("/etc/.ssh", 0o755, 3, 4)) // is there, and stays as it is
	if info, err := r.Stat("/etc/.ssh"); err != nil || info.Mode != fs.ModeDir|0o700 || info.UID != 1 || info.GID != 2 {
		t.Errorf("%+v %v", info, err)
	}
}

// What a board may have planted is neither followed nor acted on.
func TestHostileRoot(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(root, outside string) error
		path  string
		err   string // "": it is written
	}{
		{"a link out in the place of a directory", func(r, o string) error {
			return errors.Join(os.Remove(r+"/etc"), os.Symlink(o, r+"/etc"))
		}, "/etc/motd", "symbolic link"},
		{"an absolute link to /", func(r, _ string) error { return errors.Join(os.Remove(r+"/etc"), os.Symlink("/", r+"/etc")) }, "/etc/motd", "symbolic link"},
		{"a link within the root", func(r, _ string) error { return os.Symlink("etc", r+"/cfg") }, "/cfg/motd", "symbolic link"},
		{"a link out in the place of the file", func(r, o string) error { return os.Symlink(o+"/motd", r+"/etc/motd") }, "/etc/motd", ""},
		{"a link in the place of the temporary file", func(r, o string) error { return os.Symlink(o+"/motd", r+"/etc/.motd.rubus-new") }, "/etc/motd", ""},
		{"another name of the host's file", func(r, o string) error { return os.Link(o+"/motd", r+"/etc/motd") }, "/etc/motd", ""},
		{"another name in the place of the temporary file", func(r, o string) error { return os.Link(o+"/motd", r+"/etc/.motd.rubus-new") }, "/etc/motd", ""},
		{"a fifo in the place of the file", func(r, _ string) error { return unix.Mkfifo(r+"/etc/motd", 0o666) }, "/etc/motd", ""},
		{"a fifo in the place of the temporary file", func(r, _ string) error { return unix.Mkfifo(r+"/etc/.motd.rubus-new", 0o666) }, "/etc/motd", ""},
		{"a device", func(r, _ string) error { return unix.Mknod(r+"/etc/motd", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, "/etc/motd", ""},
		{"a directory in the place of the file", func(r, _ string) error { return os.Mkdir(r+"/etc/motd", 0o755) }, "/etc/motd", "directory"},
		{"a directory in the place of the temporary file", func(r, _ string) error { return os.Mkdir(r+"/etc/.motd.rubus-new", 0o755) }, "/etc/motd", "directory"},
		{"a file in the place of a directory", func(r, _ string) error { return os.WriteFile(r+"/etc/d", nil, 0o644) }, "/etc/d/motd", "no directory"},
		{"another mount", func(r, o string) error { return unix.Mount(o, r+"/etc", "", unix.MS_BIND, "") }, "/etc/motd", "cross-device"},
		{"climbing names", nil, "/etc/../../outside/motd", "want a path"},
		{"a relative path", nil, "etc/motd", "want a path"},
		{"no name", nil, "/", "want a path"},
		{"a NUL", nil, "/etc/a\x00b", "want a path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, outside := place(t)
			if c.plant != nil {
				must(t, c.plant(root, outside))
				t.Cleanup(func() { _ = unix.Unmount(root+"/etc", unix.UMOUNT_NOFOLLOW) })
			}
			r := open(t, root)
			_, err := r.Write(rootfile.File{Path: c.path, Data: []byte("ours"), Mode: 0o644})
			if c.err == "" {
				data, info, rerr := r.Read(c.path, 10)
				if err != nil || rerr != nil || string(data) != "ours" || info.Mode != 0o644 {
					t.Errorf("%v; %q %+v %v", err, data, info, rerr)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if _, _, err := r.Read(c.path, 3); err == nil {
				t.Error("read more than the limit, or what is no file")
			}
			got, err := os.ReadFile(filepath.Join(outside, "motd"))
			if err != nil || string(got) != "the host's" {
				t.Errorf("outside: %q %v", got, err)
			}
			if list, _ := os.ReadDir(outside); len(list) != 1 {
				t.Errorf("outside: %v", list)
			}
		})
	}
}

func TestReadAndRemove(t *testing.T) {
	dir, outside := place(t)
	r := open(t, dir)
	must(t, os.Symlink(outside+"/motd", dir+"/etc/link"))
	must(t, unix.Mkfifo(dir+"/etc/fifo", 0o666))
	for _, p := range []string{"/etc/link", "/etc/fifo", "/etc"} {
		if _, _, err := r.Read(p, 100); !errors.Is(err, rootfile.ErrNotRegular) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, _, err := r.Read("/etc/none", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, r.Link("/etc/fifo", "/usr/x"))
	if to, err := os.Readlink(dir + "/etc/fifo"); err != nil || to != "/usr/x" {
		t.Error(to, err)
	}
	for range 2 {
		must(t, r.Remove("/etc/link"))
		must(t, r.Remove("/none/link"))
	}
	if _, err := os.ReadFile(outside + "/motd"); err != nil {
		t.Error(err)
	}
}

func TestOwner(t *testing.T) {
	dir, _ := place(t)
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\npi:x:1000:1001:,,,:/home/pi:/bin/bash\nbad:x:a:b::/:\nshort:x\n"), 0o644))
	must(t, os.WriteFile(dir+"/etc/group", []byte("root:x:0:\nvideo:x:44:pi\nbad:x:z:\n"), 0o644))
	r := open(t, dir)
	for _, c := range []struct {
		owner    string
		uid, gid uint32
		err      string
	}{
		{"", 0, 0, ""},
		{"pi", 1000, 1001, ""},
		{"pi:video", 1000, 44, ""},
		{"12:13", 12, 13, ""},
		{"12", 12, 12, ""},
		{"pi:7", 1000, 7, ""},
		{"nobody", 0, 0, `"nobody" is not in the board's /etc/passwd`},
		{"pi:none", 0, 0, `"none" is not in the board's /etc/group`},
		{"bad", 0, 0, "no ids"},
		{"short", 0, 0, "is not in"},
		{"pi:bad", 0, 0, "no id"},
	} {
		uid, gid, err := r.Owner(c.owner)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.owner, err, c.err)
			}
			continue
		}
		if err != nil || uid != c.uid || gid != c.gid {
			t.Errorf("%q: %d %d %v", c.owner, uid, gid, err)
		}
	}
}

func TestDigest(t *testing.T) {
	dir, _ := place(t)
	digest := func() string {
		t.Helper()
		d, err := rootfile.Digest(dir, 20)
		must(t, err)
		return d
	}
	must(t, os.WriteFile(dir+"/etc/a", []byte("x"), 0o644))
	seen := map[string]string{}
	last := digest()
	if last != digest() {
		t.Fatal("not the same twice")
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"a new file", func() error { return os.WriteFile(dir+"/etc/b", nil, 0o644) }},
		{"content of the same size", func() error { return os.WriteFile(dir+"/etc/a", []byte("y"), 0o644) }},
		{"a mode", func() error { return os.Chmod(dir+"/etc/a", 0o600) }},
		{"a directory's mode", func() error { return os.Chmod(dir+"/etc", 0o700) }},
		{"a link", func() error { return os.Symlink("a", dir+"/etc/l") }},
		{"another name", func() error { return os.Link(dir+"/etc/a", dir+"/etc/c") }},
		{"a removal", func() error { return os.Remove(dir + "/etc/c") }},
		{"a directory", func() error { return os.Mkdir(dir+"/etc/d", 0o755) }},
		{"a move", func() error { return os.Rename(dir+"/etc/b", dir+"/etc/d/b") }},
	} {
		must(t, c.do())
		d := digest()
		if d == last || seen[d] != "" {
			t.Errorf("%s changes nothing", c.name)
		}
		seen[d], last = c.name, d
	}
	if _, err := rootfile.Digest(dir, 3); !errors.Is(err, rootfile.ErrMany) {
		t.Error(err)
	}
	// As many as there may be are not too many, an empty directory the last of them or not.
	full := t.TempDir()
	must(t, os.Mkdir(full+"/a", 0o755))
	must(t, os.WriteFile(full+"/b", nil, 0o644))
	must(t, os.Mkdir(full+"/c", 0o755))
	if _, err := rootfile.Digest(full, 3); err != nil {
		t.Error(err)
	}
	if _, err := rootfile.Digest(full, 2); !errors.Is(err, rootfile.ErrMany) {
		t.Error(err)
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"/etc/motd", "/", "", "a", "/a/../b", "//x", "/a/", "/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dirs, name, err := rootfile.Split(s)
		if err != nil {
			return
		}
		if got := "/" + strings.Join(append(dirs, name), "/"); got != s || filepath.Clean(s) != s || strings.ContainsRune(s, 0) {
			t.Errorf("%q is taken for %q", s, got)
		}
	})
}
