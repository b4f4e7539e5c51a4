package nfstest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var permChecks = []check{
	{"access of every mode by everyone", func(e *env) {
		f, d := e.file("f", 0o644, ""), e.mkdir("d", 0o755)
		for _, p := range []string{f, d} {
			e.must(e.Chown(p, alice, alices))
		}
		users := []struct {
			name  string
			c     Client
			shift uint32
		}{
			{"owner", e.As(alice, bobs), 6},
			{"owner in group", e.As(alice, alices), 6},
			{"group", e.As(bob, alices), 3},
			{"supplementary group", e.As(bob, bobs, common, alices), 3},
			{"other", e.As(bob, bobs, common), 0},
		}
		for _, m := range []uint32{0, 0o100, 0o010, 0o001, 0o640, 0o751, 0o604, 0o070, 0o007, 0o124, 0o777} {
			for _, p := range []string{f, d} {
				e.must(e.Chmod(p, m))
				for _, u := range users {
					for want := uint32(1); want < 8; want++ {
						if p == d && want&unix.W_OK != 0 && m>>u.shift&unix.X_OK == 0 {
							continue // NFS knows no right to write to a directory that does nothing
						}
						if got := u.c.Access(p, want) == nil; got != (m>>u.shift&want == want) {
							e.Errorf("mode %04o, %s asks %o of %s: %v", m, u.name, want, p, got)
						}
					}
				}
				for want := uint32(1); want < 8; want++ {
					may := want&unix.X_OK == 0 || p == d || m&0o111 != 0
					if got := e.Access(p, want) == nil; got != may {
						e.Errorf("mode %04o, root asks %o of %s: %v", m, want, p, got)
					}
				}
			}
		}
	}},
	{"sixteen groups", func(e *env) {
		f := e.file("f", 0o060, "")
		var groups []uint32
		for g := range uint32(16) {
			groups = append(groups, 5000+g)
		}
		for _, g := range groups {
			e.must(e.Chown(f, 0, int(g)))
			h, err := e.As(alice, alices, groups...).Open(f, unix.O_RDWR, 0)
			e.must(err)
			e.must(h.Close())
		}
		e.must(e.Chown(f, 0, 5016))
		_, err := e.As(alice, alices, groups...).Open(f, unix.O_RDWR, 0)
		e.fails(err, unix.EACCES)
	}},
	{"open", func(e *env) {
		f := e.file("f", 0o640, "text")
		e.must(e.Chown(f, alice, alices))
		_, err := e.As(bob, bobs).Open(f, unix.O_RDONLY, 0)
		e.fails(err, unix.EACCES)
		_, err = e.As(bob, alices).Open(f, unix.O_RDWR, 0)
		e.fails(err, unix.EACCES)
		h, err := e.As(bob, alices).Open(f, unix.O_RDONLY, 0)
		e.must(err)
		e.must(h.Close())
	}},
	{"owner writes on after chmod", func(e *env) {
		a := e.As(alice, alices)
		f, err := a.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o444) // as git does
		e.must(err)
		defer f.Close()
		e.write(f, 0, "object")
		e.must(f.Sync())
		e.must(a.Chmod(e.p("f"), 0))
		e.write(f, 6, " more")
		e.must(f.Sync())
		buf := make([]byte, 20)
		n, err := f.ReadAt(buf, 0)
		e.must(err)
		if string(buf[:n]) != "object more" {
			e.Errorf("read back %q", buf[:n])
		}
	}},
	{"directory without x", func(e *env) {
		d := e.mkdir("d", 0o777)
		e.must(e.Mkdir(d+"/in", 0o777))
		e.must(e.Chmod(d, 0o666))
		a := e.As(alice, alices)
		_, err := a.Lstat(d + "/in")
		e.fails(err, unix.EACCES)
		e.fails(a.Mkdir(d+"/x", 0o755), unix.EACCES)
		e.fails(a.Rmdir(d+"/in"), unix.EACCES)
		e.fails(a.Rename(d+"/in", e.p("out")), unix.EACCES)
	}},
	{"directory without w", func(e *env) {
		d := e.mkdir("d", 0o755)
		f := e.file("f", 0o666, "")
		e.must(e.Mkdir(d+"/in", 0o777))
		a := e.As(alice, alices)
		for _, k := range kinds[:5] {
			sub := &env{T: e.T, Client: a, dir: e.dir}
			e.fails(k.make(sub, d+"/new"), unix.EACCES)
		}
		e.fails(a.Rmdir(d+"/in"), unix.EACCES)
		e.fails(a.Rename(d+"/in", e.p("out")), unix.EACCES)
		e.fails(a.Rename(f, d+"/f"), unix.EACCES)
		e.must(e.Chown(f, alice, alices))
		e.fails(a.Link(f, d+"/f"), unix.EACCES)
	}},
	{"directory without r", func(e *env) {
		d := e.mkdir("d", 0o711)
		_, err := e.As(alice, alices).OpenDir(d)
		e.fails(err, unix.EACCES)
		e.names(d)
	}},
	{"sticky directory", func(e *env) {
		d := e.mkdir("d", 0o1777)
		a, b := e.As(alice, alices), e.As(bob, bobs)
		for _, n := range []string{"f", "g"} {
			f, err := a.Open(d+"/"+n, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
			e.must(err)
			e.must(f.Close())
		}
		e.must(a.Mkdir(d+"/d", 0o777))
		e.must(b.Mkdir(d+"/bd", 0o777))
		e.fails(b.Unlink(d+"/f"), unix.EPERM, unix.EACCES)
		e.fails(b.Rmdir(d+"/d"), unix.EPERM, unix.EACCES)
		e.fails(b.Rename(d+"/f", d+"/x"), unix.EPERM, unix.EACCES)
		e.fails(b.Rename(d+"/bd", d+"/d"), unix.EPERM, unix.EACCES)
		e.must(a.Rename(d+"/f", d+"/g"))
		e.must(a.Unlink(d + "/g"))
		e.must(e.Rmdir(d + "/d"))
		e.must(e.Chown(d, bob, bobs))
		e.must(a.Mkdir(d+"/d", 0o777))
		e.must(b.Rmdir(d + "/d")) // the directory is his
	}},
	{"truncate", func(e *env) {
		f := e.file("f", 0o444, "text")
		e.must(e.Chown(f, alice, alices))
		e.fails(e.As(bob, bobs).Truncate(f, 0), unix.EACCES)
		e.fails(e.As(alice, alices).Truncate(f, 0), unix.EACCES)
		e.must(e.Truncate(f, 2))
		e.content(f, "te")
	}},
	{"execute only", func(e *env) {
		f := e.file("f", 0o711, "#!/bin/true\n")
		a := e.As(alice, alices)
		e.must(a.Access(f, unix.X_OK))
		e.fails(a.Access(f, unix.R_OK), unix.EACCES)
		_, err := a.Open(f, unix.O_RDONLY, 0)
		e.fails(err, unix.EACCES)
	}},
}

var setidChecks = []check{
	{"cleared by a write", func(e *env) {
		for _, tt := range []struct {
			who        string
			c          Client
			mode, want uint32
		}{
			{"other", e.As(bob, bobs), 0o6777, 0o777},
			{"other, no x for the group", e.As(bob, bobs), 0o4766, 0o766},
			{"owner", e.As(alice, alices), 0o6777, 0o777},
			{"root", e.Client, 0o6777, 0o6777},
		} {
			f := e.file("f", 0o777, "text")
			e.must(e.Chown(f, alice, alices))
			e.must(e.Chmod(f, tt.mode))
			h, err := tt.c.Open(f, unix.O_RDWR, 0)
			e.must(err)
			e.write(h, 0, "T")
			e.must(h.Sync())
			e.must(h.Close())
			if got := e.stat(f).Mode & 0o7777; got != tt.want {
				e.Errorf("%s writes: mode %04o, want %04o", tt.who, got, tt.want)
			}
			e.must(e.Unlink(f))
		}
	}},
	{"cleared by truncate", func(e *env) {
		f := e.file("f", 0o777, "text")
		e.must(e.Chown(f, alice, alices))
		e.must(e.Chmod(f, 0o6777))
		e.must(e.As(bob, bobs).Truncate(f, 1))
		e.mode(f, 0o777)
	}},
	{"cleared by chown", func(e *env) {
		for _, m := range []uint32{0o6777, 0o4755, 0o2755} {
			f := e.file(fmt.Sprintf("f%o", m), 0o777, "text")
			e.must(e.Chown(f, alice, alices))
			e.must(e.Chmod(f, m))
			e.must(e.As(alice, alices, common).Chown(f, -1, common))
			e.mode(f, m&0o777)
			e.must(e.Chmod(f, m))
			e.must(e.Chown(f, bob, bobs))
			e.mode(f, m&0o777)
		}
		d := e.mkdir("d", 0o755)
		e.must(e.Chmod(d, 0o2755))
		e.must(e.Chown(d, alice, alices))
		e.mode(d, 0o2755)
	}},
	{"setgid of a foreign group", func(e *env) {
		f := e.file("f", 0o777, "")
		e.must(e.Chown(f, alice, common))
		e.must(e.As(alice, alices).Chmod(f, 0o2777))
		e.mode(f, 0o777)
		e.must(e.As(alice, alices, common).Chmod(f, 0o2777))
		e.mode(f, 0o2777)
	}},
	{"kept by link and rename", func(e *env) {
		f := e.file("f", 0o777, "")
		e.must(e.Chmod(f, 0o6755))
		e.must(e.Link(f, e.p("g")))
		e.must(e.Rename(e.p("g"), e.p("h")))
		e.mode(e.p("h"), 0o6755)
	}},
}
