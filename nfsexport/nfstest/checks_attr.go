package nfstest

import (
	"time"

	"golang.org/x/sys/unix"
)

var attrChecks = []check{
	{"chmod", func(e *env) {
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			if k.typ == unix.S_IFLNK {
				continue
			}
			for _, m := range []uint32{0, 0o111, 0o7777, 0o644} {
				e.must(e.Chmod(p, m))
				e.mode(p, m)
			}
		}
	}},
	{"chown", func(e *env) {
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			e.must(e.Chown(p, alice, bobs))
			e.owner(p, alice, bobs)
			e.must(e.Chown(p, -1, common))
			e.owner(p, alice, common)
			e.must(e.Chown(p, bob, -1))
			e.owner(p, bob, common)
			e.must(e.Chown(p, 4294967294, 4294967294))
			e.owner(p, 4294967294, 4294967294)
		}
	}},
	{"chmod is the owner's", func(e *env) {
		f := e.file("f", 0o666, "")
		e.must(e.Chown(f, alice, alices))
		e.fails(e.As(bob, bobs, alices).Chmod(f, 0o777), unix.EPERM)
		e.must(e.As(alice, alices).Chmod(f, 0o600))
		e.mode(f, 0o600)
	}},
	{"chown rules", func(e *env) {
		f := e.file("f", 0o666, "")
		e.must(e.Chown(f, alice, alices))
		a := e.As(alice, alices, common)
		e.fails(a.Chown(f, bob, -1), unix.EPERM)
		e.fails(a.Chown(f, -1, bobs), unix.EPERM)
		e.must(a.Chown(f, -1, common))
		e.owner(f, alice, common)
		e.must(a.Chown(f, alice, alices))
		e.owner(f, alice, alices)
		e.fails(e.As(bob, bobs, alices).Chown(f, -1, bobs), unix.EPERM)
		e.fails(e.As(bob, bobs, alices).Chown(f, bob, -1), unix.EPERM)
	}},
	{"ctime moves", func(e *env) {
		f := e.file("f", 0o644, "x")
		before := nano(e.stat(f).Ctim)
		for _, step := range []struct {
			name string
			f    func() error
		}{
			{"chmod", func() error { return e.Chmod(f, 0o600) }},
			{"chown", func() error { return e.Chown(f, alice, alices) }},
			{"link", func() error { return e.Link(f, e.p("g")) }},
			{"unlink", func() error { return e.Unlink(e.p("g")) }},
			{"rename", func() error { return e.Rename(f, e.p("h")) }},
			{"back", func() error { return e.Rename(e.p("h"), f) }},
			{"truncate", func() error { return e.Truncate(f, 7) }},
			{"utimes", func() error { return e.Utimes(f, unix.Timespec{Sec: 1}, unix.Timespec{Sec: 1}) }},
		} {
			pause()
			e.must(step.f())
			p := f
			if step.name == "rename" {
				p = e.p("h")
			}
			after := nano(e.stat(p).Ctim)
			if after <= before {
				e.Errorf("%s: ctime is not later", step.name)
			}
			before = after
		}
	}},
	{"link counts", func(e *env) {
		f := e.file("f", 0o644, "")
		for i, n := range []string{"a", "b", "c"} {
			e.must(e.Link(f, e.p(n)))
			if st := e.stat(e.p(n)); int(st.Nlink) != i+2 || st.Ino != e.stat(f).Ino {
				e.Errorf("after %d links: nlink %d", i+1, st.Nlink)
			}
		}
		e.must(e.Unlink(f))
		if st := e.stat(e.p("a")); st.Nlink != 3 {
			e.Errorf("after unlink: nlink %d, want 3", st.Nlink)
		}
	}},
	{"blocks and size", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		e.write(f, 0, string(make([]byte, 100000)))
		e.must(f.Sync())
		if st, err := f.Stat(); err != nil || st.Size != 100000 || st.Blocks*512 < 100000 || st.Blocks*512 > 300000 {
			e.Errorf("100,000 bytes: size %d, %d blocks, %v", st.Size, st.Blocks, err)
		}
		e.must(e.Truncate(e.p("f"), 0))
		if st := e.stat(e.p("f")); st.Size != 0 || st.Blocks != 0 {
			e.Errorf("cut to nothing: size %d, %d blocks", st.Size, st.Blocks)
		}
	}},
	{"inode numbers", func(e *env) {
		seen := map[uint64]string{}
		for _, k := range kinds {
			e.must(k.make(e, e.p(k.name)))
			st := e.stat(e.p(k.name))
			if old := seen[st.Ino]; old != "" {
				e.Errorf("%s has the inode number of %s", k.name, old)
			}
			seen[st.Ino] = k.name
		}
		d, err := e.OpenDir(e.dir)
		e.must(err)
		defer d.Close()
		for {
			names, err := d.Next()
			e.must(err)
			if len(names) == 0 {
				break
			}
			for _, n := range names {
				if seen[n.Ino] != n.Name {
					e.Errorf("%s is listed with inode number %d, which is of %q", n.Name, n.Ino, seen[n.Ino])
				}
			}
		}
	}},
	{"statfs", func(e *env) {
		st, err := e.Statfs()
		e.must(err)
		if st.Blocks == 0 || st.Bavail > st.Bfree || st.Bfree > st.Blocks {
			e.Errorf("statfs: %d blocks, %d free, %d available", st.Blocks, st.Bfree, st.Bavail)
		}
		if e.Kernel() && st.Namelen != 255 {
			e.Errorf("statfs: names of %d bytes", st.Namelen)
		}
	}},
}

func nano(t unix.Timespec) int64 { return t.Nano() }

// pause lets the kernel's coarse clock go on, by which files are stamped: that
// of this machine, and that of a server elsewhere, whose tick is 10 ms at most.
func pause() {
	coarse := func() (ts unix.Timespec) {
		_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) // fails for no clock that exists
		return ts
	}
	start, tick := time.Now(), coarse()
	for time.Since(start) < 12*time.Millisecond || coarse() == tick {
		time.Sleep(time.Millisecond) // no synchronisation: time itself is what is waited for
	}
}

var (
	now  = unix.Timespec{Nsec: unix.UTIME_NOW}
	omit = unix.Timespec{Nsec: unix.UTIME_OMIT}
)

var timeChecks = []check{
	{"nanoseconds on every kind", func(e *env) {
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			a, m := unix.Timespec{Sec: 1234567890, Nsec: 123456789}, unix.Timespec{Sec: 987654321, Nsec: 999999999}
			e.must(e.Utimes(p, a, m))
			if st := e.stat(p); st.Atim != a || st.Mtim != m {
				e.Errorf("%s: atime %v mtime %v", k.name, st.Atim, st.Mtim)
			}
		}
	}},
	{"omit and now", func(e *env) {
		f := e.file("f", 0o644, "")
		old := unix.Timespec{Sec: 1000, Nsec: 5}
		start := time.Now().Unix() - 60
		e.must(e.Utimes(f, old, old))
		e.must(e.Utimes(f, omit, unix.Timespec{Sec: 2000}))
		if st := e.stat(f); st.Atim != old || st.Mtim.Sec != 2000 {
			e.Errorf("omitting atime: %v %v", st.Atim, st.Mtim)
		}
		e.must(e.Utimes(f, unix.Timespec{Sec: 3000}, omit))
		if st := e.stat(f); st.Atim.Sec != 3000 || st.Mtim.Sec != 2000 {
			e.Errorf("omitting mtime: %v %v", st.Atim, st.Mtim)
		}
		e.must(e.Utimes(f, omit, now))
		if st := e.stat(f); st.Atim.Sec != 3000 || st.Mtim.Sec < start {
			e.Errorf("mtime to now: %v %v", st.Atim, st.Mtim)
		}
		e.must(e.Utimes(f, now, unix.Timespec{Sec: 7}))
		if st := e.stat(f); st.Atim.Sec < start || st.Mtim.Sec != 7 {
			e.Errorf("atime to now: %v %v", st.Atim, st.Mtim)
		}
	}},
	{"omit and now on every kind", func(e *env) {
		start := time.Now().Unix() - 60
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			old := unix.Timespec{Sec: 1000, Nsec: 1}
			e.must(e.Utimes(p, old, old))
			before := e.stat(p)
			e.must(e.Utimes(p, omit, omit))
			if st := e.stat(p); st.Atim != old || st.Mtim != old {
				e.Errorf("%s, both omitted: %v %v, before %v", k.name, st.Atim, st.Mtim, before.Mtim)
			}
			e.must(e.Utimes(p, omit, now))
			if st := e.stat(p); st.Atim != old || st.Mtim.Sec < start {
				e.Errorf("%s, mtime to now: %v %v", k.name, st.Atim, st.Mtim)
			}
			e.must(e.Utimes(p, now, omit))
			e.must(e.Utimes(p, omit, unix.Timespec{Sec: 1 << 31, Nsec: 999999999}))
			if st := e.stat(p); st.Atim.Sec < start || st.Mtim != (unix.Timespec{Sec: 1 << 31, Nsec: 999999999}) {
				e.Errorf("%s, atime to now, mtime in 2038: %v %v", k.name, st.Atim, st.Mtim)
			}
		}
	}},
	{"who may", func(e *env) {
		f := e.file("f", 0o666, "")
		e.must(e.Chown(f, alice, alices))
		t := unix.Timespec{Sec: 5}
		e.must(e.As(alice, alices).Utimes(f, t, t))
		b := e.As(bob, bobs)
		e.fails(b.Utimes(f, t, t), unix.EPERM)
		e.fails(b.Utimes(f, now, t), unix.EPERM)
		e.fails(b.Utimes(f, t, omit), unix.EPERM)
		e.must(b.Utimes(f, omit, omit)) // nothing is asked
		e.must(b.Utimes(f, now, now))   // may write
		e.must(e.Chmod(f, 0o644))
		e.fails(b.Utimes(f, now, now), unix.EACCES)
		e.must(e.Chmod(f, 0o000))
		e.must(e.As(alice, alices).Utimes(f, now, now))
		e.must(e.As(alice, alices).Utimes(f, t, t))
	}},
	{"write moves mtime and ctime", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		before, err := f.Stat()
		e.must(err)
		pause()
		e.write(f, 0, "x")
		e.must(f.Sync())
		after, err := f.Stat()
		e.must(err)
		if after.Mtim.Nano() <= before.Mtim.Nano() || after.Ctim.Nano() <= before.Ctim.Nano() {
			e.Errorf("mtime %v -> %v, ctime %v -> %v", before.Mtim, after.Mtim, before.Ctim, after.Ctim)
		}
	}},
	{"directory times", func(e *env) {
		d, d2 := e.mkdir("d", 0o755), e.mkdir("d2", 0o755)
		e.file("f", 0o644, "")
		for _, step := range []struct {
			name string
			f    func() error
			dirs []string
		}{
			{"mkdir", func() error { return e.Mkdir(d+"/x", 0o755) }, []string{d}},
			{"rmdir", func() error { return e.Rmdir(d + "/x") }, []string{d}},
			{"symlink", func() error { return e.Symlink("x", d+"/l") }, []string{d}},
			{"unlink", func() error { return e.Unlink(d + "/l") }, []string{d}},
			{"link", func() error { return e.Link(e.p("f"), d+"/g") }, []string{d}},
			{"mknod", func() error { return e.Mknod(d+"/p", unix.S_IFIFO, 0) }, []string{d}},
			{"rename", func() error { return e.Rename(d+"/g", d2+"/g") }, []string{d, d2}},
		} {
			var before []unix.Stat_t
			for _, d := range step.dirs {
				before = append(before, e.stat(d))
			}
			pause()
			e.must(step.f())
			for i, d := range step.dirs {
				if st := e.stat(d); st.Mtim.Nano() <= before[i].Mtim.Nano() || st.Ctim.Nano() <= before[i].Ctim.Nano() {
					e.Errorf("%s: the times of %s did not move", step.name, d)
				}
			}
		}
	}},
}
