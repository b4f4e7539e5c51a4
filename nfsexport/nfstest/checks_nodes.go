package nfstest

import (
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// nodeChecks are for a kernel's view: what programs, devices, fifos and sockets
// do is the kernel's that mounted them.
var nodeChecks = []check{
	{"program of mode 0111", func(e *env) {
		p := e.file("prog", 0o111, string(program()))
		if code, err := execute(e.real("prog"), alice, alices); err != nil || code != alice&0xff {
			e.Errorf("executed by another user: exit code %d, %v", code, err)
		}
		_, err := e.As(alice, alices).Open(p, unix.O_RDONLY, 0)
		e.fails(err, unix.EACCES)
		for _, tt := range []struct {
			mode       uint32
			uid, gid   uint32
			want       unix.Errno
			owner, grp int
		}{
			{0o666, alice, alices, unix.EACCES, 0, 0},
			{0o666, 0, 0, unix.EACCES, 0, 0}, // no x at all: not even root
			{0o100, 0, 0, 0, alice, alices},
			{0o100, alice, bobs, 0, alice, alices},
			{0o100, bob, alices, unix.EACCES, alice, alices},
			{0o011, alice, alices, unix.EACCES, alice, alices},
			{0o010, bob, alices, 0, alice, alices},
		} {
			e.must(e.Chown(p, tt.owner, tt.grp))
			e.must(e.Chmod(p, tt.mode))
			_, err := execute(e.real("prog"), tt.uid, tt.gid)
			e.fails(err, tt.want)
		}
	}},
	{"set-id program", func(e *env) {
		p := e.file("prog", 0o755, string(program()))
		e.must(e.Chown(p, alice, alices))
		e.must(e.Chmod(p, 0o4111))
		want := alice & 0xff
		if e.mounted(unix.ST_NOSUID) {
			want = bob & 0xff
		}
		if code, err := execute(e.real("prog"), bob, bobs); err != nil || code != want {
			e.Errorf("executed by another user: exit code %d, want %d, %v", code, want, err)
		}
	}},
	{"program replaced while it is there", func(e *env) {
		e.file("prog", 0o755, string(program()))
		e.file("new", 0o755, string(program()))
		for range 3 {
			if code, err := execute(e.real("prog"), bob, bobs); err != nil || code != bob&0xff {
				e.Fatalf("exit code %d, %v", code, err)
			}
			e.must(e.Rename(e.p("new"), e.p("prog")))
			e.file("new", 0o755, string(program()))
		}
	}},
	{"socket", func(e *env) {
		addr := &unix.SockaddrUnix{Name: e.real("s")}
		l := e.socket()
		e.must(unix.Bind(l, addr))
		e.must(unix.Listen(l, 5))
		e.must(e.Chmod(e.p("s"), 0o755))
		if st := e.stat(e.p("s")); st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			e.Errorf("the type is %o", st.Mode&unix.S_IFMT)
		}
		c := e.socket()
		connect := func() error { return unix.Connect(c, addr) }
		e.fails(e.As(alice, alices).(*dirClient).do(connect), unix.EACCES)
		e.must(connect())
		s, _, err := unix.Accept(l)
		e.must(err)
		defer unix.Close(s)
		_, err = unix.Write(c, []byte("hello"))
		e.must(err)
		buf := make([]byte, 10)
		if n, err := unix.Read(s, buf); err != nil || string(buf[:n]) != "hello" {
			e.Errorf("%q came, %v", buf[:max(n, 0)], err)
		}
		e.fails(unix.Bind(e.socket(), addr), unix.EADDRINUSE)
		_, err = e.Open(e.p("s"), unix.O_RDWR, 0)
		e.fails(err, unix.ENXIO)
		e.must(e.Unlink(e.p("s")))
		e.fails(unix.Connect(e.socket(), addr), unix.ENOENT)
		e.must(e.Mknod(e.p("s"), unix.S_IFSOCK|0o777, 0))
		e.fails(unix.Connect(e.socket(), addr), unix.ECONNREFUSED)
	}},
	{"fifo", func(e *env) {
		p := e.real("fifo")
		e.must(e.Mknod(e.p("fifo"), unix.S_IFIFO|0o600, 0))
		_, err := unix.Open(p, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		e.fails(err, unix.ENXIO)
		_, err = e.As(alice, alices).Open(e.p("fifo"), unix.O_RDONLY|unix.O_NONBLOCK, 0)
		e.fails(err, unix.EACCES)
		cmd := exec.Command("sh", "-c", `seq 20000 >"$0"`, p) // more than a pipe holds
		e.must(cmd.Start())
		r, err := os.Open(p)
		e.must(err)
		defer r.Close()
		text, err := io.ReadAll(r)
		e.must(err)
		e.must(cmd.Wait())
		if n := len(text); n != 108894 || string(text[n-6:]) != "20000\n" {
			e.Errorf("%d bytes came", n)
		}
		if st := e.stat(e.p("fifo")); st.Size != 0 {
			e.Errorf("the fifo has size %d", st.Size)
		}
	}},
	{"device nodes", func(e *env) {
		for name, minor := range map[string]uint32{"null": 3, "zero": 5} {
			e.must(e.Mknod(e.p(name), unix.S_IFCHR|0o666, unix.Mkdev(1, minor)))
			f, err := e.As(alice, alices).Open(e.p(name), unix.O_RDWR, 0)
			if e.mounted(unix.ST_NODEV) {
				e.fails(err, unix.EACCES)
				continue
			}
			e.must(err)
			e.write(f, 0, "something")
			buf := []byte("12345")
			n, err := f.ReadAt(buf, 0)
			if want := "12345\x00\x00\x00\x00\x00"[minor/5*5:][:5]; err != nil || n != int(minor/5*5) || string(buf) != want {
				e.Errorf("%s: %d bytes, %q, %v", name, n, buf, err)
			}
			e.must(f.Close())
		}
		e.must(e.Mknod(e.p("none"), unix.S_IFBLK|0o666, unix.Mkdev(4000, 70000)))
		_, err := e.Open(e.p("none"), unix.O_RDONLY, 0)
		e.fails(err, unix.ENXIO, unix.ENODEV, unix.EACCES)
		e.must(e.Mknod(e.p("mine"), unix.S_IFCHR|0o600, unix.Mkdev(1, 3)))
		_, err = e.As(alice, alices).Open(e.p("mine"), unix.O_RDWR, 0)
		e.fails(err, unix.EACCES)
	}},
}

// real is the path of a name in the check's directory, for calls that are not
// of Client.
func (e *env) real(name string) string { return e.Client.(*dirClient).path(e.p(name)) }

// mounted says whether the mount has a flag of statfs(2).
func (e *env) mounted(flag int64) bool {
	st, err := e.Statfs()
	e.must(err)
	return int64(st.Flags)&flag != 0
}

// socket is a stream socket until the check ends.
func (e *env) socket() int {
	e.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	e.must(err)
	e.Cleanup(func() { unix.Close(fd) })
	return fd
}
