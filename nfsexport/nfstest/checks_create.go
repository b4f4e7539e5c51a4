package nfstest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var (
	name255 = strings.Repeat("n", 255)
	name256 = strings.Repeat("n", 256)
)

var nameChecks = []check{
	{"255 bytes", func(e *env) {
		e.file(name255, 0o644, "x")
		e.names(e.dir, name255)
		e.must(e.Rename(e.p(name255), e.p("short")))
		e.must(e.Link(e.p("short"), e.p(name255)))
		e.must(e.Unlink(e.p(name255)))
		e.must(e.Mkdir(e.p(name255), 0o755))
		e.must(e.Rmdir(e.p(name255)))
		e.must(e.Symlink("x", e.p(name255)))
	}},
	{"256 bytes", func(e *env) {
		f := e.file("f", 0o644, "")
		_, err := e.Open(e.p(name256), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.fails(err, unix.ENAMETOOLONG)
		e.fails(e.Mkdir(e.p(name256), 0o755), unix.ENAMETOOLONG)
		e.fails(e.Symlink("x", e.p(name256)), unix.ENAMETOOLONG)
		e.fails(e.Mknod(e.p(name256), unix.S_IFIFO, 0), unix.ENAMETOOLONG)
		e.fails(e.Link(f, e.p(name256)), unix.ENAMETOOLONG)
		e.fails(e.Rename(f, e.p(name256)), unix.ENAMETOOLONG)
		e.fails(e.Unlink(e.p(name256)), unix.ENAMETOOLONG)
		e.fails(e.Rmdir(e.p(name256)), unix.ENAMETOOLONG)
		_, err = e.Lstat(e.p(name256))
		e.fails(err, unix.ENAMETOOLONG)
	}},
	{"any byte", func(e *env) {
		var all []string
		for b := 1; b < 256; b++ {
			if b != '/' && b != '.' {
				all = append(all, string([]byte{byte(b)}))
				e.file(all[len(all)-1], 0o644, "")
			}
		}
		all = append(all, "..x", ".x", "x.", "...", "\xff\xfe", "a\nb")
		for _, n := range all[len(all)-6:] {
			e.file(n, 0o644, "")
		}
		e.names(e.dir, all...)
	}},
	{"missing", func(e *env) {
		_, err := e.Lstat(e.p("no"))
		e.fails(err, unix.ENOENT)
		_, err = e.Lstat(e.p("no/no"))
		e.fails(err, unix.ENOENT)
		e.fails(e.Unlink(e.p("no")), unix.ENOENT)
		e.fails(e.Rmdir(e.p("no")), unix.ENOENT)
		e.fails(e.Rename(e.p("no"), e.p("x")), unix.ENOENT)
		e.fails(e.Link(e.p("no"), e.p("x")), unix.ENOENT)
		e.fails(e.Mkdir(e.p("no/no"), 0o755), unix.ENOENT)
		_, err = e.Readlink(e.p("no"))
		e.fails(err, unix.ENOENT)
	}},
	{"below a file", func(e *env) {
		for _, k := range kinds {
			if k.typ == unix.S_IFDIR || k.typ == unix.S_IFLNK {
				continue
			}
			e.must(k.make(e, e.p(k.name)))
			_, err := e.Lstat(e.p(k.name + "/x"))
			e.fails(err, unix.ENOTDIR)
			e.fails(e.Mkdir(e.p(k.name+"/x"), 0o755), unix.ENOTDIR)
			e.fails(e.Unlink(e.p(k.name+"/x")), unix.ENOTDIR)
			e.fails(e.Rename(e.p(k.name+"/x"), e.p("y")), unix.ENOTDIR)
			_, err = e.OpenDir(e.p(k.name))
			e.fails(err, unix.ENOTDIR, 0) // a direct client learns it from Next
		}
	}},
	{"dots", func(e *env) {
		d := e.mkdir("d", 0o755)
		if e.stat(d+"/.").Ino != e.stat(d).Ino || e.stat(d+"/..").Ino != e.stat(e.dir).Ino {
			e.Error(". or .. is another directory")
		}
		for _, dots := range []string{"/.", "/.."} {
			e.fails(e.Mkdir(d+dots, 0o755), unix.EEXIST)
			e.fails(e.Rmdir(d+dots), unix.EINVAL, unix.ENOTEMPTY, unix.EACCES)
			e.fails(e.Rename(d+dots, e.p("x")), unix.EBUSY, unix.EPERM)
		}
		if e.stat("..").Ino != e.stat(".").Ino && !e.Kernel() {
			e.Error(".. of the root is not the root")
		}
	}},
	{"long symlinks", func(e *env) {
		for _, n := range []int{1, 59, 60, 61, 255, 1023, 1024, 4094} {
			text := strings.Repeat("s", n)
			if err := e.Symlink(text, e.p("l")); err == unix.ENAMETOOLONG && n > 1023 {
				continue // xfs has no longer ones
			} else if err != nil {
				e.Fatalf("making a link of %d bytes: %v", n, err)
			}
			if got, err := e.Readlink(e.p("l")); err != nil || got != text {
				e.Errorf("a link of %d bytes reads as %d bytes, %v", n, len(got), err)
			}
			if st := e.stat(e.p("l")); st.Size != int64(n) {
				e.Errorf("a link of %d bytes has size %d", n, st.Size)
			}
			e.must(e.Unlink(e.p("l")))
		}
		e.fails(e.Symlink(strings.Repeat("s", 5000), e.p("l")), unix.ENAMETOOLONG)
		e.fails(e.Symlink("", e.p("l")), unix.ENOENT)
	}},
	{"readlink of others", func(e *env) {
		for _, k := range kinds {
			if k.typ != unix.S_IFLNK {
				e.must(k.make(e, e.p(k.name)))
				_, err := e.Readlink(e.p(k.name))
				e.fails(err, unix.EINVAL)
			}
		}
	}},
}

var createChecks = []check{
	{"every kind", func(e *env) {
		for _, k := range kinds {
			before := e.stat(e.dir)
			e.must(k.make(e, e.p(k.name)))
			st := e.stat(e.p(k.name))
			if st.Mode&unix.S_IFMT != k.typ {
				e.Errorf("%s has type %o, want %o", k.name, st.Mode&unix.S_IFMT, k.typ)
			}
			if k.typ == unix.S_IFDIR && st.Nlink != 2 && st.Nlink != 1 || k.typ != unix.S_IFDIR && st.Nlink != 1 {
				e.Errorf("%s has %d links", k.name, st.Nlink)
			}
			after := e.stat(e.dir)
			if before.Mtim.Nano() > after.Mtim.Nano() {
				e.Errorf("the directory's mtime went back")
			}
			e.owner(e.p(k.name), 0, 0)
		}
		e.names(e.dir, "file", "dir", "symlink", "fifo", "socket", "char", "block")
	}},
	{"every kind over every kind", func(e *env) {
		for _, old := range kinds {
			e.must(old.make(e, e.p("x")))
			for _, k := range kinds {
				e.fails(k.make(e, e.p("x")), unix.EEXIST)
			}
			removeAll(e.Client, e.p("x"))
		}
	}},
	{"device numbers", func(e *env) {
		for i, d := range [][2]uint32{{1, 3}, {511, 262143}, {0, 1}, {255, 256}, {8, 65536}} {
			p := e.p(string(rune('a' + i)))
			e.must(e.Mknod(p, unix.S_IFBLK|0o600, unix.Mkdev(d[0], d[1])))
			st := e.stat(p)
			if unix.Major(uint64(st.Rdev)) != d[0] || unix.Minor(uint64(st.Rdev)) != d[1] {
				e.Errorf("made device %v, got %d,%d", d, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
			}
		}
	}},
	{"device nodes are root's", func(e *env) {
		a := e.As(alice, alices)
		e.fails(a.Mknod(e.p("c"), unix.S_IFCHR|0o666, unix.Mkdev(1, 3)), unix.EPERM)
		e.fails(a.Mknod(e.p("b"), unix.S_IFBLK|0o666, unix.Mkdev(1, 3)), unix.EPERM)
		e.must(a.Mknod(e.p("p"), unix.S_IFIFO|0o666, 0))
		e.must(a.Mknod(e.p("s"), unix.S_IFSOCK|0o666, 0))
		e.owner(e.p("p"), alice, alices)
		e.names(e.dir, "p", "s")
	}},
	{"all modes", func(e *env) {
		for _, m := range []uint32{0, 0o1, 0o20, 0o400, 0o444, 0o666, 0o777, 0o755, 0o4711, 0o2755, 0o6777} {
			f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, m)
			e.must(err)
			e.write(f, 0, "x")
			e.must(f.Close())
			e.must(e.Chmod(e.p("f"), m))
			e.mode(e.p("f"), m)
			e.must(e.Unlink(e.p("f")))
		}
		for _, m := range []uint32{0, 0o700, 0o777, 0o1777} {
			e.must(e.Mkdir(e.p("d"), m))
			e.mode(e.p("d"), m)
			e.must(e.Rmdir(e.p("d")))
			e.must(e.Mknod(e.p("p"), unix.S_IFIFO|m&0o777, 0))
			e.mode(e.p("p"), m&0o777)
			e.must(e.Unlink(e.p("p")))
		}
	}},
	{"exclusive", func(e *env) {
		e.file("f", 0o644, "keep")
		_, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_TRUNC, 0o600)
		e.fails(err, unix.EEXIST)
		e.content(e.p("f"), "keep")
	}},
	{"one of many wins", func(e *env) {
		for i := range 20 {
			var won atomic.Int32
			var wg sync.WaitGroup
			for n := range 4 {
				// Every other by a call that is exclusive by its nature.
				c, p := e.As(0, 0), e.p(fmt.Sprintf("f%d", i))
				wg.Go(func() {
					var f File
					var err error
					if i%2 == 0 {
						f, err = c.Open(p, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
					} else {
						err = c.Mkdir(p, 0o700)
					}
					switch err {
					case nil:
						won.Add(1)
					case unix.EEXIST:
					default:
						e.Errorf("maker %d: %v", n, err)
					}
					if err == nil && f != nil {
						f.Close()
					}
				})
			}
			wg.Wait()
			if n := won.Load(); n != 1 {
				e.Errorf("name %d: %d have made it", i, n)
			}
		}
	}},
	{"open an existing one", func(e *env) {
		e.file("f", 0o640, "keep")
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o777)
		e.must(err)
		e.must(f.Close())
		e.mode(e.p("f"), 0o640)
		e.content(e.p("f"), "keep")
		f, err = e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR|unix.O_TRUNC, 0o777)
		e.must(err)
		e.must(f.Close())
		e.content(e.p("f"), "")
	}},
	{"owner and group", func(e *env) {
		a := e.As(alice, alices, bobs)
		f, err := a.Open(e.p("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
		e.must(err)
		e.must(f.Close())
		e.must(a.Mkdir(e.p("d"), 0o755))
		e.must(a.Symlink("x", e.p("l")))
		for _, n := range []string{"f", "d", "l"} {
			e.owner(e.p(n), alice, alices)
		}
		g := e.As(0, common) // root with another group
		e.must(g.Mkdir(e.p("rg"), 0o755))
		e.owner(e.p("rg"), 0, common)
	}},
	{"root with another group", func(e *env) {
		r := e.As(0, common)
		d := e.mkdir("d", 0o777)
		e.must(e.Chown(d, alice, alices))
		e.must(e.Chmod(d, 0o2700))
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(&env{T: e.T, Client: r, dir: e.dir}, p))
			e.owner(p, 0, common)
			e.must(r.Chown(p, bob, bobs))
			e.owner(p, bob, bobs)
			e.must(k.make(&env{T: e.T, Client: r, dir: e.dir}, d+"/"+k.name)) // the directory's group wins
			e.owner(d+"/"+k.name, 0, alices)
		}
		e.must(r.Chmod(e.p("file"), 0o6755)) // CAP_FSETID: a foreign group does not matter
		e.mode(e.p("file"), 0o6755)
		e.must(r.Chmod(e.p("file"), 0o4700))
		f, err := r.Open(e.p("file"), unix.O_RDWR, 0)
		e.must(err)
		e.write(f, 0, "x")
		e.must(f.Sync())
		e.must(f.Close())
		e.mode(e.p("file"), 0o4700)
		e.owner(e.p("file"), bob, bobs)
	}},
	{"setgid directory", func(e *env) {
		d := e.mkdir("d", 0o777)
		e.must(e.Chown(d, 0, common))
		e.must(e.Chmod(d, 0o2777))
		a := e.As(alice, alices)
		f, err := a.Open(d+"/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o664)
		e.must(err)
		e.must(f.Close())
		e.must(a.Mkdir(d+"/d", 0o775))
		e.must(a.Symlink("x", d+"/l"))
		e.must(a.Mknod(d+"/p", unix.S_IFIFO|0o644, 0))
		for _, n := range []string{"f", "d", "l", "p"} {
			e.owner(d+"/"+n, alice, common)
		}
		e.mode(d+"/d", 0o2775)
		e.mode(d+"/f", 0o664)
	}},
}
