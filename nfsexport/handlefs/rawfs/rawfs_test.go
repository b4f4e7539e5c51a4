package rawfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestName(t *testing.T) {
	for name, c := range map[string]struct {
		set  string
		want string
	}{
		"one":          {"f", "f"},
		"none":         {"", ""},
		"the longest":  {strings.Repeat("x", 255), strings.Repeat("x", 255)},
		"one too many": {strings.Repeat("x", 256), strings.Repeat("x", 255)},
	} {
		var n Name
		n.Set(strings.Repeat("z", 255)) // nothing is left of what was there
		if n.Set(c.set); unix.ByteSliceToString(n[:]) != c.want || !n.Is(c.want) {
			t.Errorf("%s: %q", name, n)
		}
		for _, other := range []string{c.want + "y", "y" + c.want, strings.TrimSuffix(c.want, "x") + "y"} {
			if n.Is(other) {
				t.Errorf("%s: it is %q, too", name, other)
			}
		}
	}
}

func TestErrno(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want unix.Errno
	}{
		"none":         {nil, 0},
		"a number":     {unix.ENOTDIR, unix.ENOTDIR},
		"another kind": {io.ErrUnexpectedEOF, unix.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestDecimal(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 10: "10", 1234567890: "1234567890", 1<<31 - 1: "2147483647"} {
		var d decimal
		if d.set(n); unix.ByteSliceToString(d[:]) != want {
			t.Errorf("%d is %q", n, d)
		}
	}
}

// world is a directory with what may be in one.
type world struct {
	path string
	dir  int
}

func (w *world) open(t *testing.T, name string, flags int) int {
	t.Helper()
	fd, err := unix.Open(filepath.Join(w.path, name), flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(name, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{path: t.TempDir()}
	if err := errors.Join(
		os.WriteFile(filepath.Join(w.path, "f"), []byte("some text"), 0o640),
		os.Mkdir(filepath.Join(w.path, "d"), 0o755),
		os.Symlink("to f", filepath.Join(w.path, "l")),
	); err != nil {
		t.Fatal(err)
	}
	w.dir = w.open(t, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	return w
}

func named(s string) *Name {
	n := new(Name)
	n.Set(s)
	return n
}

// TestCalls makes each call once as it should be and once as it fails. What it has done
// the package os says.
func TestCalls(t *testing.T) {
	mode := func(w *world, name string) os.FileMode {
		st, err := os.Lstat(filepath.Join(w.path, name))
		if err != nil {
			return 0
		}
		return st.Mode()
	}
	text, err := unix.BytePtrFromString("text")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0))
	for name, c := range map[string]struct {
		do    func(t *testing.T, w *world) unix.Errno
		want  unix.Errno
		after func(w *world) bool // nil: nothing is to be seen
	}{
		"open": {do: func(t *testing.T, w *world) unix.Errno {
			fd, e := Open(w.dir, named("new"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o604)
			if e == 0 {
				flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if flags&unix.FD_CLOEXEC == 0 {
					t.Error("it is passed on")
				}
				unix.Close(fd)
			}
			return e
		}, after: func(w *world) bool { return mode(w, "new") == 0o604 }},
		"open what is not there": {do: func(_ *testing.T, w *world) unix.Errno {
			fd, e := Open(w.dir, named("none"), unix.O_RDONLY, 0)
			if fd != -1 {
				return 0
			}
			return e
		}, want: unix.ENOENT},
		"mkdir":       {do: func(_ *testing.T, w *world) unix.Errno { return Mkdir(w.dir, named("e"), 0o751) }, after: func(w *world) bool { return mode(w, "e") == os.ModeDir|0o751 }},
		"mkdir again": {do: func(_ *testing.T, w *world) unix.Errno { return Mkdir(w.dir, named("d"), 0o751) }, want: unix.EEXIST},
		"symlink": {do: func(_ *testing.T, w *world) unix.Errno { return Symlink(text, w.dir, named("m")) }, after: func(w *world) bool {
			to, err := os.Readlink(w.path + "/m")
			return err == nil && to == "text"
		}},
		"symlink again": {do: func(_ *testing.T, w *world) unix.Errno { return Symlink(text, w.dir, named("l")) }, want: unix.EEXIST},
		"mknod": {do: func(_ *testing.T, w *world) unix.Errno {
			return Mknod(w.dir, named("c"), unix.S_IFCHR|0o620, unix.Mkdev(4, 65))
		}, after: func(w *world) bool {
			var st unix.Stat_t
			return unix.Lstat(w.path+"/c", &st) == nil && st.Mode == unix.S_IFCHR|0o620 && st.Rdev == unix.Mkdev(4, 65)
		}},
		"mknod of nothing": {do: func(_ *testing.T, w *world) unix.Errno { return Mknod(w.dir, named("c"), unix.S_IFDIR, 0) }, want: unix.EPERM},
		"link": {do: func(t *testing.T, w *world) unix.Errno { return Link(w.open(t, "f", unix.O_PATH), w.dir, named("g")) }, after: func(w *world) bool {
			a, errA := os.Lstat(w.path + "/f")
			b, errB := os.Lstat(w.path + "/g")
			return errA == nil && errB == nil && os.SameFile(a, b)
		}},
		"link of a symbolic link": {do: func(t *testing.T, w *world) unix.Errno { return Link(w.open(t, "l", unix.O_PATH), w.dir, named("g")) }, after: func(w *world) bool { return mode(w, "g")&os.ModeSymlink != 0 }},
		"link again":              {do: func(t *testing.T, w *world) unix.Errno { return Link(w.open(t, "f", unix.O_PATH), w.dir, named("l")) }, want: unix.EEXIST},
		"unlink":                  {do: func(_ *testing.T, w *world) unix.Errno { return Unlink(w.dir, named("l"), 0) }, after: func(w *world) bool { return mode(w, "l") == 0 && mode(w, "f") != 0 }},
		"unlink of a directory":   {do: func(_ *testing.T, w *world) unix.Errno { return Unlink(w.dir, named("d"), 0) }, want: unix.EISDIR},
		"rmdir":                   {do: func(_ *testing.T, w *world) unix.Errno { return Unlink(w.dir, named("d"), unix.AT_REMOVEDIR) }, after: func(w *world) bool { return mode(w, "d") == 0 }},
		"rename": {do: func(t *testing.T, w *world) unix.Errno {
			return Rename(w.dir, named("f"), w.open(t, "d", unix.O_PATH), named("g"))
		}, after: func(w *world) bool { return mode(w, "f") == 0 && mode(w, "d/g") == 0o640 }},
		"rename of nothing": {do: func(_ *testing.T, w *world) unix.Errno { return Rename(w.dir, named("none"), w.dir, named("g")) }, want: unix.ENOENT},
		"chown of a symbolic link": {do: func(t *testing.T, w *world) unix.Errno { return Chown(w.open(t, "l", unix.O_PATH), 12, 34) }, after: func(w *world) bool {
			var st unix.Stat_t
			return unix.Lstat(w.path+"/l", &st) == nil && st.Uid == 12 && st.Gid == 34
		}},
		"chown of the group": {do: func(t *testing.T, w *world) unix.Errno { return Chown(w.open(t, "f", unix.O_PATH), KeepID, 34) }, after: func(w *world) bool {
			var st unix.Stat_t
			return unix.Lstat(w.path+"/f", &st) == nil && st.Uid == 0 && st.Gid == 34
		}},
		"chown of nothing": {do: func(*testing.T, *world) unix.Errno { return Chown(-1, 12, 34) }, want: unix.EBADF},
		"times": {do: func(t *testing.T, w *world) unix.Errno {
			return SetTimes(w.open(t, "l", unix.O_PATH), &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 7, Nsec: 8}})
		}, after: func(w *world) bool {
			var st unix.Stat_t
			return unix.Lstat(w.path+"/l", &st) == nil && st.Mtim == unix.Timespec{Sec: 7, Nsec: 8} && st.Atim.Sec > 7
		}},
		"times of nothing": {do: func(*testing.T, *world) unix.Errno { return SetTimes(-1, &[2]unix.Timespec{}) }, want: unix.EBADF},
		"stat": {do: func(t *testing.T, w *world) unix.Errno {
			var st unix.Stat_t
			e := Stat(w.open(t, "l", unix.O_PATH), &st)
			if st.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Errorf("mode %o", st.Mode)
			}
			return e
		}},
		"stat of nothing": {do: func(*testing.T, *world) unix.Errno { return Stat(-1, &unix.Stat_t{}) }, want: unix.EBADF},
		"stat of an entry": {do: func(t *testing.T, w *world) unix.Errno {
			var st unix.Stat_t
			e := StatAt(w.dir, named("l"), &st)
			if st.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Errorf("mode %o", st.Mode)
			}
			return e
		}},
		"stat of no entry": {do: func(_ *testing.T, w *world) unix.Errno { return StatAt(w.dir, named("none"), &unix.Stat_t{}) }, want: unix.ENOENT},
		"readlink": {do: func(t *testing.T, w *world) unix.Errno {
			buf := make([]byte, 3)
			n, e := ReadLink(w.open(t, "l", unix.O_PATH), buf)
			if string(buf[:n]) != "to " {
				t.Errorf("%q", buf[:n])
			}
			return e
		}},
		"readlink of nothing": {do: func(*testing.T, *world) unix.Errno {
			_, e := ReadLink(-1, make([]byte, 3))
			return e
		}, want: unix.EBADF},
		"read": {do: func(t *testing.T, w *world) unix.Errno {
			buf := make([]byte, 20)
			n, e := Read(w.open(t, "f", unix.O_RDONLY), buf, 5)
			if string(buf[:n]) != "text" {
				t.Errorf("%q", buf[:n])
			}
			return e
		}},
		"read of a directory": {do: func(_ *testing.T, w *world) unix.Errno {
			_, e := Read(w.dir, make([]byte, 20), 0)
			return e
		}, want: unix.EISDIR},
		"write": {do: func(t *testing.T, w *world) unix.Errno {
			n, e := Write(w.open(t, "f", unix.O_WRONLY), []byte("TEXT, and more"), 5)
			if n != 14 {
				t.Errorf("%d bytes", n)
			}
			return e
		}, after: func(w *world) bool {
			b, err := os.ReadFile(w.path + "/f")
			return err == nil && string(b) == "some TEXT, and more"
		}},
		"write to what is read": {do: func(t *testing.T, w *world) unix.Errno {
			_, e := Write(w.open(t, "f", unix.O_RDONLY), []byte("x"), 0)
			return e
		}, want: unix.EBADF},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if e := c.do(t, w); e != c.want {
				t.Errorf("%v, want %v", e, c.want)
			}
			if c.after != nil && !c.after(w) {
				t.Error("it has not happened")
			}
		})
	}
}

// TestProc: an O_PATH descriptor does what it could not by itself.
func TestProc(t *testing.T) {
	w := newWorld(t)
	p, err := OpenProc()
	if err != nil {
		t.Fatal(err)
	}
	f := w.open(t, "f", unix.O_PATH)
	fd, e := p.Reopen(f, unix.O_RDWR)
	if e != 0 {
		t.Fatal(e)
	}
	defer unix.Close(fd)
	buf := make([]byte, 20)
	if n, e := Read(fd, buf, 0); e != 0 || string(buf[:n]) != "some text" {
		t.Errorf("opened again it has %q, %v", buf[:n], e)
	}
	if _, e := p.Reopen(w.open(t, "d", unix.O_PATH), unix.O_RDWR); e != unix.EISDIR {
		t.Errorf("a directory for writing: %v", e)
	}
	var path [unix.PathMax]byte
	if got, ok := p.Path(f, &path); !ok || string(got) != w.path+"/f" {
		t.Errorf("its path is %q, %v", got, ok)
	}
	if got, ok := p.Path(1<<20, &path); ok {
		t.Errorf("what is not open has the path %q", got)
	}
	if e := p.Chmod(f, 0o4711); e != 0 {
		t.Error(e)
	}
	if st, err := os.Lstat(w.path + "/f"); err != nil || st.Mode() != os.ModeSetuid|0o711 {
		t.Errorf("the mode is %v, %v", st.Mode(), err)
	}
	if p.HasXattr(f, "user.there") {
		t.Error("it has an attribute that nobody gave it")
	}
	if err := unix.Setxattr(w.path+"/f", "trusted.there", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if !p.HasXattr(f, "trusted.there") {
		t.Error("it has not the attribute that it was given")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, e := p.Reopen(f, unix.O_RDONLY); e != unix.EBADF {
		t.Errorf("after Close: %v", e)
	}
}

// TestDoesNotAllocate: calls come by the ten thousand a second.
func TestDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	p, err := OpenProc()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, l := w.open(t, "f", unix.O_RDONLY), w.open(t, "l", unix.O_PATH)
	buf := make([]byte, 100)
	for name, do := range map[string]func() unix.Errno{
		"stat": func() unix.Errno { var st unix.Stat_t; return Stat(f, &st) },
		"stat of an entry": func() unix.Errno {
			var n Name
			n.Set("f")
			var st unix.Stat_t
			return StatAt(w.dir, &n, &st)
		},
		"open": func() unix.Errno {
			var n Name
			n.Set("f")
			fd, e := Open(w.dir, &n, unix.O_PATH, 0)
			unix.Close(fd)
			return e
		},
		"reopen": func() unix.Errno {
			fd, e := p.Reopen(f, unix.O_RDONLY)
			unix.Close(fd)
			return e
		},
		"path": func() unix.Errno {
			var buf [unix.PathMax]byte
			if _, ok := p.Path(f, &buf); !ok {
				return unix.ENAMETOOLONG
			}
			return 0
		},
		"readlink": func() unix.Errno { var buf [100]byte; _, e := ReadLink(l, buf[:]); return e },
		"read":     func() unix.Errno { _, e := Read(f, buf, 0); return e },
		"chmod":    func() unix.Errno { return p.Chmod(f, 0o600) },
	} {
		if n := testing.AllocsPerRun(20, func() {
			if e := do(); e != 0 {
				t.Errorf("%s: %v", name, e)
			}
		}); n > 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
