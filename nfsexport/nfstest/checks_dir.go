package nfstest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hugeDir is how many entries the biggest directory of the suite has.
const hugeDir = 5000

// fill makes n files named prefix and a number.
func (e *env) fill(dir, prefix string, n int) (names []string) {
	e.Helper()
	for i := range n {
		name := fmt.Sprintf("%s%05d", prefix, i)
		f, err := e.Open(dir+"/"+name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
		e.must(err)
		e.must(f.Close())
		names = append(names, name)
	}
	return names
}

var dirChecks = []check{
	{"empty", func(e *env) {
		e.names(e.mkdir("d", 0o755))
	}},
	{"huge", func(e *env) {
		d := e.mkdir("d", 0o755)
		e.names(d, e.fill(d, "a-file-with-a-name-of-some-length-", hugeDir)...)
	}},
	{"removed while listed", func(e *env) {
		// What rm -r does: everything listed is removed before the listing goes
		// on. Nothing may be left behind.
		d := e.mkdir("d", 0o755)
		e.fill(d, "f", 2000)
		for range 2 { // a program that finds the directory not empty looks again
			l, err := e.OpenDir(d)
			e.must(err)
			for {
				names, err := l.Next()
				e.must(err)
				if len(names) == 0 {
					break
				}
				for _, n := range names {
					if err := e.Unlink(d + "/" + n.Name); err != unix.ENOENT {
						e.must(err)
					}
				}
			}
			e.must(l.Close())
		}
		e.names(d)
		e.must(e.Rmdir(d))
	}},
	{"changed while listed", func(e *env) {
		// What is there all the time is listed exactly once.
		d := e.mkdir("d", 0o755)
		keep := e.fill(d, "keep", 500)
		e.fill(d, "drop", 500)
		l, err := e.OpenDir(d)
		e.must(err)
		defer l.Close()
		seen := map[string]int{}
		for step := 0; ; step++ {
			names, err := l.Next()
			e.must(err)
			if len(names) == 0 {
				break
			}
			for _, n := range names {
				seen[n.Name]++
			}
			for i := range 20 {
				e.Unlink(fmt.Sprintf("%s/drop%05d", d, step*20+i))
				e.fill(d, fmt.Sprintf("new%d-%d-", step, i), 1)
			}
			if step > 200 {
				break
			}
		}
		for _, n := range keep {
			if seen[n] != 1 {
				e.Errorf("%s was listed %d times", n, seen[n])
			}
		}
	}},
	{"two at once", func(e *env) {
		d := e.mkdir("d", 0o755)
		want := e.fill(d, "f", 300)
		a, err := e.OpenDir(d)
		e.must(err)
		defer a.Close()
		b, err := e.OpenDir(d)
		e.must(err)
		defer b.Close()
		na, nb := 0, 0
		for {
			x, err := a.Next()
			e.must(err)
			y, err := b.Next()
			e.must(err)
			na, nb = na+len(x), nb+len(y)
			if len(x) == 0 && len(y) == 0 {
				break
			}
		}
		if na != len(want) || nb != len(want) {
			e.Errorf("listed %d and %d of %d", na, nb, len(want))
		}
	}},
	{"deep", func(e *env) {
		p := e.dir
		for range 50 {
			p += "/deep"
			e.must(e.Mkdir(p, 0o755))
		}
		f, err := e.Open(p+"/f", unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		e.write(f, 0, "bottom")
		e.must(f.Close())
		e.content(p+"/f", "bottom")
	}},
}
