package handlefs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// TestListedAfterChange: what a listing remembers of its entries is right after each
// kind of change, whoever made it, in READDIRPLUS of any size.
func TestListedAfterChange(t *testing.T) {
	now := time.Now()
	w := newWorld(t, t.TempDir(), Options{Now: func() time.Time { return now }}, true, func(lower string) {
		os.MkdirAll(lower+"/d/sub", 0o755)
		os.Mkdir(lower+"/e", 0o755)
		for i := range 3 * listing.RunLen {
			write(t, fmt.Sprintf("%s/d/f%02d", lower, i), "golden")
		}
		must(t, os.Link(lower+"/d/f40", lower+"/e/link"))
	})
	d, c := w.lookup(t, "d"), w.client()
	local := func(name string) string { return w.ov.Root + "/d/" + name }
	// listed wants READDIRPLUS to say what LOOKUP and the kernel say.
	listed := func(when string) {
		t.Helper()
		there, err := os.ReadDir(w.ov.Root + "/d")
		must(t, err)
		for _, n := range []int{1, 7, listing.RunLen, 1000} {
			l := w.all(t, d, n, true)
			if len(l) != len(there)+2 {
				t.Fatalf("%s: %d entries, there are %d", when, len(l), len(there)+2)
			}
			for _, e := range l {
				var h []byte
				var a, da nfs3.PostAttr
				var is unix.Stat_t
				var want nfs3.Attr
				must(t, unix.Lstat(local(e.name), &is))
				st := w.Lookup(&w.call, d, e.name, &h, &a, &da)
				(&op{exp: &export{Export: w.exp}}).attr(&is, &want)
				if st != nfs3.OK || string(h) != string(e.handle) || !e.attr.OK || e.attr.Attr != want || a != e.attr {
					t.Fatalf("%s: READDIRPLUS of %d says of %q %+v, LOOKUP %d, %+v; it is %+v", when, n, e.name, e.attr, st, a, want)
				}
			}
		}
	}
	settle := func() {
		for at := stamp.Of(w.stat(t, "d")); !at.Settled(stamp.Now()); {
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
		now = now.Add(attrAge)
	}
	write := func(path, data string, off int64) error {
		f, err := c.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(data), off)
		return err
	}
	host := func(err error) error {
		now = now.Add(attrAge)
		return err
	}
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"a golden file grows", func() error { return write("d/f00", "more", 10) }},
		{"a file grows", func() error { return write("d/f00", "yet more", 5000) }},
		{"by another name", func() error { return write("e/link", "more", 10) }},
		{"chmod", func() error { return c.Chmod("d/f01", 0o4711) }},
		{"chmod of a directory", func() error { return c.Chmod("d/sub", 0o700) }},
		{"in a directory", func() error { return c.Mkdir("d/sub/new", 0o755) }},
		{"times", func() error { return c.Utimes("d/f02", unix.Timespec{Sec: 1}, unix.Timespec{Sec: 2}) }},
		{"truncate", func() error { return c.Truncate("d/f03", 1) }},
		{"create", func() error { return write("d/new", "new", 0) }},
		{"another create, at once", func() error { return write("d/new2", "new", 0) }},
		{"remove", func() error { return c.Unlink("d/f04") }},
		{"remove and create", func() error {
			if err := c.Unlink("d/f05"); err != nil {
				return err
			}
			return c.Symlink("somewhere", "d/f05")
		}},
		{"rename", func() error { return c.Rename("d/f06", "d/f99") }},
		{"rename over", func() error { return c.Rename("d/f07", "d/f08") }},
		{"rename away", func() error { return c.Rename("d/f09", "e/f09") }},
		{"link", func() error { return c.Link("d/f10", "e/f10") }},
		{"chmod by the host", func() error { return host(os.Chmod(local("f11"), 0o600)) }},
		{"write by the host", func() error { return host(os.WriteFile(local("f12"), make([]byte, 9999), 0o600)) }},
		{"remove by the host", func() error { return host(os.Remove(local("f13"))) }},
		{"rename by the host", func() error { return host(os.Rename(local("f14"), local("f15"))) }},
		{"by the host, held", func() error {
			release, err := w.Hold(t.Context(), w.exp.ID)
			must(t, err)
			defer release()
			return os.Chmod(local("f16"), 0o611)
		}},
		{"another mount", func() error {
			must(t, w.Withdraw(w.exp.ID))
			w.ov.Unmount(t)
			must(t, os.RemoveAll(w.ov.Upper+"/d"))
			must(t, os.RemoveAll(w.ov.Work))
			must(t, os.Mkdir(w.ov.Work, 0o700))
			w.ov.Mount(t)
			w.publish(t)
			return nil
		}},
	} {
		settle()
		listed("before " + x.what)
		if l := w.object(t, d).listed.Last(); l == nil || !l.HasRuns() || l.Run(0) == nil || l.Run((l.Len()-1)/listing.RunLen) == nil {
			t.Fatalf("before %s: nothing is remembered", x.what)
		}
		if err := x.do(); err != nil {
			t.Fatalf("%s: %v", x.what, err)
		}
		listed(x.what)
		listed(x.what + ", again")
	}
}
