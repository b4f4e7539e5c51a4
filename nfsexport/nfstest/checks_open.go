package nfstest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// open opens a name in the check's directory until the check ends, following
// links.
func (e *env) open(name string, flags int, mode uint32) int {
	e.Helper()
	fd, err := unix.Open(e.real(name), flags|unix.O_CLOEXEC, mode)
	e.must(err)
	e.Cleanup(func() { unix.Close(fd) })
	return fd
}

// shows wants fd to hold a text from its start to its end.
func (e *env) shows(fd int, want string) {
	e.Helper()
	buf := make([]byte, len(want)+10)
	n, err := unix.Pread(fd, buf, 0)
	e.must(err)
	if string(buf[:n]) != want {
		e.Errorf("the file holds %.60q, want %.60q", buf[:n], want)
	}
}

func (e *env) put(fd int, text string) {
	e.Helper()
	if n, err := unix.Write(fd, []byte(text)); err != nil || n != len(text) {
		e.Fatalf("writing %d bytes: %d, %v", len(text), n, err)
	}
}

// openChecks are for a kernel's view: NFS itself knows no open files.
var openChecks = []check{
	{"two appenders", func(e *env) {
		const lines = 300
		fds := []int{e.open("f", unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND, 0o644), e.open("f", unix.O_WRONLY|unix.O_APPEND, 0)}
		var wg sync.WaitGroup
		for i, fd := range fds {
			wg.Go(func() {
				for n := range lines {
					e.put(fd, fmt.Sprintf("appender %d says %04d of it\n", i, n))
				}
			})
		}
		wg.Wait()
		e.must(unix.Fsync(fds[0]))
		text := make([]byte, 1<<16)
		n, err := unix.Pread(e.open("f", unix.O_RDONLY, 0), text, 0)
		e.must(err)
		next := [2]int{}
		for line := range strings.Lines(string(text[:n])) {
			var who, what int
			if _, err := fmt.Sscanf(line, "appender %d says %d of it\n", &who, &what); err != nil || who > 1 || next[who] != what {
				e.Fatalf("line %q after %v", line, next)
			}
			next[who]++
		}
		if next != [2]int{lines, lines} {
			e.Errorf("%v lines are there", next)
		}
	}},
	{"append after a cut", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_APPEND, 0o644)
		e.put(fd, "12345")
		e.must(e.Truncate(e.p("f"), 2))
		e.put(fd, "x")
		_, err := unix.Pwrite(fd, []byte("y"), 0) // O_APPEND wins: pwrite(2), BUGS
		e.must(err)
		e.content(e.p("f"), "12xy")
	}},
	{"shared memory map", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		const size = 5*4096 + 100
		e.must(unix.Ftruncate(fd, size))
		m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		e.must(err)
		want := make([]byte, size)
		for _, off := range []int{0, 4094, 3 * 4096, size - 4} {
			copy(m[off:], "mmap")
			copy(want[off:], "mmap")
		}
		e.must(unix.Msync(m, unix.MS_SYNC))
		e.shows(e.open("f", unix.O_RDONLY, 0), string(want))
		_, err = unix.Pwrite(fd, []byte("written"), 4096)
		e.must(err)
		copy(want[4096:], "written")
		if !bytes.Equal(m, want) {
			e.Error("the map does not show what was written")
		}
		m2, err := unix.Mmap(e.open("f", unix.O_RDONLY, 0), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		e.must(err)
		copy(m[100:], "both")
		copy(want[100:], "both")
		if !bytes.Equal(m2, want) {
			e.Error("two maps differ")
		}
		e.must(unix.Munmap(m2))
		e.must(unix.Munmap(m)) // "both" is not synced: closing does that
		e.must(unix.Fsync(fd))
		e.content(e.p("f"), string(want))
	}},
	{"private memory map", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.put(fd, "text")
		m, err := unix.Mmap(fd, 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		e.must(err)
		copy(m, "mine")
		e.must(unix.Munmap(m))
		e.content(e.p("f"), "text")
	}},
	{"holes are found or are data", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		for _, off := range []int64{1 << 20, 9 << 20} {
			_, err := unix.Pwrite(fd, []byte("data"), off)
			e.must(err)
		}
		e.must(unix.Ftruncate(fd, 12<<20))
		e.must(unix.Fsync(fd))
		for at := int64(0); ; {
			data, err := unix.Seek(fd, at, unix.SEEK_DATA)
			if err == unix.ENXIO {
				break
			}
			e.must(err)
			for _, off := range []int64{1 << 20, 9 << 20} {
				if at <= off && off < data {
					e.Errorf("data at %d is in a hole from %d to %d", off, at, data)
				}
			}
			at, err = unix.Seek(fd, data, unix.SEEK_HOLE)
			e.must(err)
			if at <= data {
				e.Fatalf("data from %d to %d", data, at)
			}
		}
		_, err := unix.Seek(fd, 12<<20, unix.SEEK_HOLE)
		e.fails(err, unix.ENXIO)
	}},
	{"unlinked", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.put(fd, "alive and well")
		other := e.open("f", unix.O_RDONLY, 0)
		e.must(e.Unlink(e.p("f")))
		e.must(unix.Ftruncate(fd, 5))
		_, err := unix.Pwrite(fd, []byte("!"), 5)
		e.must(err)
		e.must(unix.Fsync(fd))
		e.must(unix.Fchmod(fd, 0o600))
		e.shows(fd, "alive!")
		e.shows(other, "alive!")
		var st unix.Stat_t
		e.must(unix.Fstat(fd, &st))
		if st.Size != 6 || st.Mode&0o777 != 0o600 {
			e.Errorf("size %d, mode %o", st.Size, st.Mode)
		}
		e.file("f", 0o644, "another") // takes the name, and not the file
		e.shows(fd, "alive!")
		e.content(e.p("f"), "another")
		unix.Close(fd)
		unix.Close(other)
		e.left(e.dir, "f")
	}},
	{"replaced", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.put(fd, "old")
		e.file("g", 0o644, "new")
		e.must(e.Rename(e.p("g"), e.p("f")))
		e.put(fd, "er")
		e.must(unix.Fsync(fd))
		e.shows(fd, "older")
		e.content(e.p("f"), "new")
		unix.Close(fd)
		e.left(e.dir, "f")
	}},
	{"renamed, then unlinked", func(e *env) {
		d := e.mkdir("d", 0o755)
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.put(fd, "text")
		e.must(e.Rename(e.p("f"), d+"/g"))
		e.put(fd, "s")
		e.content(d+"/g", "texts")
		e.must(e.Unlink(d + "/g"))
		e.put(fd, "!")
		e.must(unix.Fsync(fd))
		e.shows(fd, "texts!")
		unix.Close(fd)
		e.left(d)
		e.must(e.Rmdir(d))
	}},
	{"the last of two names", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(e.Link(e.p("f"), e.p("g")))
		e.must(e.Unlink(e.p("f")))
		e.put(fd, "x")
		e.must(e.Unlink(e.p("g")))
		e.put(fd, "y")
		e.shows(fd, "xy")
		unix.Close(fd)
		e.left(e.dir)
	}},
	{"a directory that is removed", func(e *env) {
		e.mkdir("d", 0o755)
		fd := e.open("d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.must(e.Rmdir(e.p("d")))
		n, err := unix.Getdents(fd, make([]byte, 4096))
		e.fails(err, 0, unix.ENOENT, unix.ESTALE)
		if n > 0 {
			e.Errorf("%d bytes of entries", n)
		}
		_, err = unix.Openat(fd, "x", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.fails(err, unix.ENOENT, unix.ESTALE)
	}},
	{"cut by O_TRUNC", func(e *env) {
		p := e.file("f", 0o644, "text")
		fd := e.open("f", unix.O_RDWR, 0)
		g, err := e.Open(p, unix.O_WRONLY|unix.O_TRUNC, 0)
		e.must(err)
		e.must(g.Close())
		e.shows(fd, "")
		e.put(fd, "more")
		e.must(e.Chown(p, alice, alices))
		_, err = e.As(bob, bobs).Open(p, unix.O_WRONLY|unix.O_TRUNC, 0)
		e.fails(err, unix.EACCES)
		e.must(e.Chmod(p, 0o444))
		_, err = e.As(alice, alices).Open(p, unix.O_WRONLY|unix.O_TRUNC, 0)
		e.fails(err, unix.EACCES)
		e.content(p, "more")
	}},
	{"the owner and mode 0444", func(e *env) {
		a := e.As(alice, alices)
		for _, m := range []uint32{0o444, 0o400, 0} {
			f, err := a.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, m)
			e.must(err)
			e.write(f, 0, "made")
			e.must(f.Sync())
			_, err = a.Open(e.p("f"), unix.O_WRONLY, 0)
			e.fails(err, unix.EACCES)
			_, err = a.Open(e.p("f"), unix.O_RDONLY, 0)
			e.fails(err, map[bool]unix.Errno{true: 0, false: unix.EACCES}[m&0o400 != 0])
			g, err := e.Open(e.p("f"), unix.O_RDWR, 0) // root
			e.must(err)
			e.write(g, 0, "by root")
			e.must(g.Close())
			e.write(f, 0, "on")
			e.must(f.Close())
			e.content(e.p("f"), "on root")
			e.must(e.Unlink(e.p("f")))
		}
	}},
	{"what is not a file", func(e *env) {
		e.file("f", 0o644, "")
		e.mkdir("d", 0o755)
		for name, target := range map[string]string{"l": "f", "loop": "loop", "there": "made"} {
			e.must(e.Symlink(target, e.p(name)))
		}
		for _, tt := range []struct {
			name  string
			flags int
			want  unix.Errno
		}{
			{"d", unix.O_WRONLY, unix.EISDIR},
			{"d", unix.O_RDWR, unix.EISDIR},
			{"d", unix.O_RDONLY | unix.O_CREAT, unix.EISDIR},
			{"f", unix.O_DIRECTORY, unix.ENOTDIR},
			{"f/", unix.O_RDONLY, unix.ENOTDIR},
			{"l", unix.O_RDONLY | unix.O_NOFOLLOW, unix.ELOOP},
			{"loop", unix.O_RDONLY, unix.ELOOP},
			{"loop/x", unix.O_RDONLY, unix.ELOOP},
			{"there", unix.O_RDONLY, unix.ENOENT},
			{"there", unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
			{"no", unix.O_RDONLY, unix.ENOENT},
		} {
			_, err := unix.Open(e.real(tt.name), tt.flags|unix.O_CLOEXEC, 0o644)
			if err != tt.want {
				e.Errorf("opening %s with %#x: %v, want %v", tt.name, tt.flags, err, tt.want)
			}
		}
		e.put(e.open("there", unix.O_CREAT|unix.O_RDWR, 0o644), "through a link")
		e.content(e.p("made"), "through a link")
	}},
	{"locks", func(e *env) {
		a, b := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644), e.open("f", unix.O_RDWR, 0)
		lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 10}
		e.must(unix.FcntlFlock(uintptr(a), unix.F_OFD_SETLK, &lk))
		e.fails(unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &lk), unix.EAGAIN, unix.EACCES)
		rest := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 10}
		e.must(unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &rest))
		unix.Close(a)
		e.must(unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &lk))
	}},
}

// beyondChecks are what a local file system can, and NFSv3 cannot: what a
// client gets instead is in the list of differences.
var beyondChecks = []check{
	{"links of an unlinked file", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(e.Unlink(e.p("f")))
		var st unix.Stat_t
		e.must(unix.Fstat(fd, &st))
		if st.Nlink != 0 {
			e.Errorf("%d links", st.Nlink)
		}
	}},
	{"times before 1970 and after 2106", func(e *env) {
		f := e.file("f", 0o644, "")
		for _, sec := range []int64{-1, 1 << 32} {
			ts := unix.Timespec{Sec: sec, Nsec: 7}
			e.must(e.Utimes(f, ts, ts))
			if st := e.stat(f); st.Mtim != ts {
				e.Errorf("%d became %d", sec, st.Mtim.Sec)
			}
		}
	}},
	{"one time to now is the owner's", func(e *env) {
		f := e.file("f", 0o666, "")
		b := e.As(bob, bobs)
		e.fails(b.Utimes(f, now, omit), unix.EPERM)
		e.fails(b.Utimes(f, omit, now), unix.EPERM)
	}},
	{"rename without replacing", func(e *env) {
		a, b := e.file("a", 0o644, "a"), e.file("b", 0o644, "b")
		rename := func() error {
			return unix.Renameat2(unix.AT_FDCWD, e.real("a"), unix.AT_FDCWD, e.real("b"), unix.RENAME_NOREPLACE)
		}
		e.fails(rename(), unix.EEXIST)
		e.must(e.Unlink(b))
		e.must(rename())
		e.content(b, "a")
		_, err := e.Lstat(a)
		e.fails(err, unix.ENOENT)
	}},
	{"space ahead", func(e *env) {
		fd := e.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(unix.Fallocate(fd, 0, 0, 1<<20))
		var st unix.Stat_t
		e.must(unix.Fstat(fd, &st))
		if st.Size != 1<<20 || st.Blocks*512 < 1<<20 {
			e.Errorf("size %d, %d blocks", st.Size, st.Blocks)
		}
	}},
	{"unnamed file", func(e *env) {
		e.put(e.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o600), "text")
	}},
	{"extended attributes", func(e *env) {
		e.file("f", 0o644, "")
		e.must(unix.Setxattr(e.real("f"), "trusted.nfstest", []byte("x"), 0))
	}},
}
