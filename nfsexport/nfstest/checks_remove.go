package nfstest

import (
	"golang.org/x/sys/unix"
)

var removeChecks = []check{
	{"every kind", func(e *env) {
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			if k.typ == unix.S_IFDIR {
				e.fails(e.Unlink(p), unix.EISDIR)
				e.must(e.Rmdir(p))
			} else {
				e.fails(e.Rmdir(p), unix.ENOTDIR)
				e.must(e.Unlink(p))
			}
			_, err := e.Lstat(p)
			e.fails(err, unix.ENOENT)
		}
		e.names(e.dir)
	}},
	{"directory not empty", func(e *env) {
		for _, k := range kinds {
			d := e.mkdir("d", 0o755)
			e.must(k.make(e, d+"/x"))
			e.fails(e.Rmdir(d), unix.ENOTEMPTY)
			removeAll(e.Client, d+"/x")
			e.must(e.Rmdir(d))
		}
	}},
	{"and made again", func(e *env) {
		for range 5 {
			e.file("f", 0o644, "text")
			e.content(e.p("f"), "text")
			e.must(e.Unlink(e.p("f")))
			e.mkdir("f", 0o755)
			e.file("f/in", 0o644, "")
			e.must(e.Unlink(e.p("f/in")))
			e.must(e.Rmdir(e.p("f")))
		}
	}},
	{"one of two names", func(e *env) {
		f := e.file("f", 0o644, "text")
		e.must(e.Link(f, e.p("g")))
		e.must(e.Unlink(f))
		e.content(e.p("g"), "text")
		_, err := e.Lstat(f)
		e.fails(err, unix.ENOENT)
	}},
}

var renameChecks = []check{
	{"everything over everything", func(e *env) {
		for _, old := range kinds {
			for _, over := range kinds {
				a, b := e.p("a"), e.p("b")
				e.must(old.make(e, a))
				e.must(over.make(e, b))
				ino := e.stat(a).Ino
				err := e.Rename(a, b)
				oldDir, overDir := old.typ == unix.S_IFDIR, over.typ == unix.S_IFDIR
				switch {
				case oldDir && !overDir:
					e.fails(err, unix.ENOTDIR)
				case !oldDir && overDir:
					e.fails(err, unix.EISDIR)
				case err != nil:
					e.Errorf("%s over %s: %v", old.name, over.name, err)
				default:
					if st := e.stat(b); st.Ino != ino || st.Mode&unix.S_IFMT != old.typ {
						e.Errorf("%s over %s left something else", old.name, over.name)
					}
					_, err := e.Lstat(a)
					e.fails(err, unix.ENOENT)
				}
				removeAll(e.Client, a)
				removeAll(e.Client, b)
			}
		}
	}},
	{"keeps the inode", func(e *env) {
		d := e.mkdir("d", 0o755)
		for _, k := range kinds {
			e.must(k.make(e, e.p("x")))
			before := e.stat(e.p("x"))
			e.must(e.Rename(e.p("x"), d+"/"+k.name))
			after := e.stat(d + "/" + k.name)
			if before.Ino != after.Ino || before.Mtim != after.Mtim || before.Mode != after.Mode {
				e.Errorf("%s changed by its rename", k.name)
			}
		}
	}},
	{"over a directory that is not empty", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("b", 0o755)
		e.file("b/in", 0o644, "")
		e.fails(e.Rename(e.p("a"), e.p("b")), unix.ENOTEMPTY, unix.EEXIST)
		e.names(e.dir, "a", "b")
	}},
	{"into itself", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.fails(e.Rename(e.p("a"), e.p("a/c")), unix.EINVAL)
		e.fails(e.Rename(e.p("a"), e.p("a/b/c")), unix.EINVAL)
		e.fails(e.Rename(e.p("a/b"), e.p("a")), unix.ENOTEMPTY, unix.EEXIST)
		e.names(e.dir, "a")
	}},
	{"one name to the same", func(e *env) {
		f := e.file("f", 0o644, "text")
		e.must(e.Rename(f, f))
		e.content(f, "text")
		e.must(e.Link(f, e.p("g")))
		e.must(e.Rename(f, e.p("g"))) // one file: nothing happens
		e.names(e.dir, "f", "g")
	}},
	{"moves a directory", func(e *env) {
		e.mkdir("a", 0o755)
		e.mkdir("a/b", 0o755)
		e.file("a/b/f", 0o644, "text")
		e.mkdir("c", 0o755)
		e.must(e.Rename(e.p("a/b"), e.p("c/b")))
		e.content(e.p("c/b/f"), "text")
		if e.stat(e.p("c/b/..")).Ino != e.stat(e.p("c")).Ino {
			e.Error(".. of the moved directory is the old one")
		}
		e.names(e.p("a"))
	}},
	{"replaced file is gone", func(e *env) {
		e.file("a", 0o644, "new")
		e.file("b", 0o644, "old")
		e.must(e.Rename(e.p("a"), e.p("b")))
		e.content(e.p("b"), "new")
		e.names(e.dir, "b")
	}},
}

var linkChecks = []check{
	{"every kind", func(e *env) {
		for _, k := range kinds {
			p := e.p(k.name)
			e.must(k.make(e, p))
			err := e.Link(p, e.p("l."+k.name))
			if k.typ == unix.S_IFDIR {
				e.fails(err, unix.EPERM, unix.EISDIR)
				continue
			}
			e.must(err)
			a, b := e.stat(p), e.stat(e.p("l."+k.name))
			if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
				e.Errorf("%s: inodes %d %d, links %d %d", k.name, a.Ino, b.Ino, a.Nlink, b.Nlink)
			}
		}
	}},
	{"over every kind", func(e *env) {
		f := e.file("f", 0o644, "")
		for _, k := range kinds {
			e.must(k.make(e, e.p("x")))
			e.fails(e.Link(f, e.p("x")), unix.EEXIST)
			removeAll(e.Client, e.p("x"))
		}
	}},
	{"shares its data", func(e *env) {
		f := e.file("f", 0o644, "one")
		e.must(e.Link(f, e.p("g")))
		h, err := e.Open(e.p("g"), unix.O_RDWR, 0)
		e.must(err)
		e.write(h, 0, "two")
		e.must(h.Close())
		e.content(f, "two")
	}},
	{"many", func(e *env) {
		f := e.file("f", 0o644, "")
		const n = 200
		for i := range n {
			e.must(e.Link(f, e.p("l"+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10)))))
		}
		if st := e.stat(f); st.Nlink != n+1 {
			e.Errorf("%d links, want %d", st.Nlink, n+1)
		}
	}},
}
