package handlefs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/images/layered"
	"rubus/images/upper"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
	"rubus/overlay"
)

// late is what a board does to a golden file that it had only listed: at first by its handle, then
// by names. Each has a directory of its own with "a", "b", "link" and "x", which is "y", too.
type late struct {
	name string
	file string
	do   func(s *standing, fh []byte) nfs3.Status
	has  string // the file then
	then func(c nfstest.Client, d string) error
	want map[string]string // at last, by path; "~" is what is beside the directory
	now  string            // the file by its handle, then; "": as before
}

const (
	none  = "(none)"
	stale = "(stale)"
)

func puts(s *standing, fh []byte) nfs3.Status { return s.put(fh, "WRITTEN") }

func sets(a nfs3.SetAttr) func(*standing, []byte) nfs3.Status {
	return func(s *standing, fh []byte) nfs3.Status {
		var w nfs3.Wcc
		return s.SetAttr(&s.call, fh, &a, nil, &w)
	}
}

func unlinks(names ...string) func(nfstest.Client, string) error {
	return func(c nfstest.Client, d string) (err error) {
		for _, n := range names {
			err = errors.Join(err, c.Unlink(d+"/"+n))
		}
		return err
	}
}

func renames(from, to string) func(nfstest.Client, string) error {
	return func(c nfstest.Client, d string) error { return c.Rename(in(d, from), in(d, to)) }
}

// in is where a name is that belongs to a directory, see late.
func in(d, name string) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok {
		d, name = "beside", d+rest
	}
	return strings.TrimSuffix(d+"/"+name, "/")
}

var lates = []late{
	{"written", "a", puts, "WRITTEN", nil, nil, ""},
	{"cut", "a", sets(nfs3.SetAttr{SetSize: true, Size: 3}), "gol", nil, nil, ""},
	{"emptied", "a", sets(nfs3.SetAttr{SetSize: true}), "", nil, nil, ""},
	{"grown", "a", sets(nfs3.SetAttr{SetSize: true, Size: 8}), "golden\x00\x00", nil, nil, ""},
	{"mode", "a", sets(nfs3.SetAttr{SetMode: true, Mode: 0o600}), "golden", nil, nil, ""},
	{"owner", "a", sets(nfs3.SetAttr{SetUID: true, UID: 12, SetGID: true, GID: 34}), "golden", nil, nil, ""},
	{"link's owner", "link", sets(nfs3.SetAttr{SetUID: true, UID: 12}), "a", nil, nil, ""},
	{"link removed", "link", sets(nfs3.SetAttr{SetUID: true, UID: 12}), "a", unlinks("link"), map[string]string{"link": none}, stale},
	{"has two names", "x", puts, "WRITTEN", nil, map[string]string{"x": "WRITTEN", "y": "WRITTEN"}, ""},
	{"written by its name", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error {
		return writeSync(d+"/a", "named")(c)
	}, map[string]string{"a": "namedEN"}, "namedEN"},
	{"mode by its name", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error { return c.Chmod(d+"/a", 0o640) }, nil, ""},
	{"removed", "a", puts, "WRITTEN", unlinks("a"), map[string]string{"a": none, "b": "golden"}, stale},
	{"made anew", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error {
		return errors.Join(c.Unlink(d+"/a"), writeSync(d+"/a", "new")(c))
	}, map[string]string{"a": "new"}, stale},
	{"one name removed", "x", puts, "WRITTEN", unlinks("x"), map[string]string{"x": none, "y": "WRITTEN"}, ""},
	{"the other removed", "x", puts, "WRITTEN", unlinks("y"), map[string]string{"x": "WRITTEN", "y": none}, ""},
	{"both removed", "x", puts, "WRITTEN", unlinks("x", "y"), map[string]string{"x": none, "y": none}, stale},
	{"renamed", "a", puts, "WRITTEN", renames("a", "n"), map[string]string{"a": none, "n": "WRITTEN"}, ""},
	{"moved", "a", puts, "WRITTEN", renames("a", "~"), map[string]string{"a": none, "~": "WRITTEN"}, ""},
	{"renamed over another", "a", puts, "WRITTEN", renames("a", "b"), map[string]string{"a": none, "b": "WRITTEN"}, ""},
	{"another over it", "a", puts, "WRITTEN", renames("b", "a"), map[string]string{"a": "golden", "b": none}, stale},
	{"linked", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error {
		return c.Link(d+"/a", d+"/n")
	}, map[string]string{"a": "WRITTEN", "n": "WRITTEN"}, ""},
	{"linked and removed", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error {
		return errors.Join(c.Link(d+"/a", d+"/n"), c.Unlink(d+"/a"))
	}, map[string]string{"a": none, "n": "WRITTEN"}, ""},
	{"directory moved", "a", puts, "WRITTEN", renames("", "~"), map[string]string{"a": none, "~/a": "WRITTEN", "~/b": "golden"}, ""},
	{"directory removed", "a", puts, "WRITTEN", func(c nfstest.Client, d string) error {
		return errors.Join(unlinks("a", "b", "x", "y", "link")(c, d), c.Rmdir(d))
	}, map[string]string{"a": none}, stale},
}

// list lists the directories, by path.
func (s *standing) list(t *testing.T) map[string]listed {
	t.Helper()
	all := map[string]listed{}
	for _, l := range lates {
		for _, e := range s.all(t, s.lookup(t, l.name), 1000, true) {
			all[in(l.name, e.name)] = e
		}
	}
	return all
}

func (s *standing) dos(t *testing.T) {
	t.Helper()
	for _, l := range lates {
		if st := l.do(s, s.told[in(l.name, l.file)]); st != nfs3.OK {
			t.Errorf("%s: %v", l.name, st)
		}
	}
}

func (s *standing) thens(t *testing.T) {
	t.Helper()
	for _, l := range lates {
		if l.then == nil {
			continue
		}
		if err := l.then(s.client(), l.name); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
	}
}

// check looks at the files by handle and by name; last is after thens.
func (s *standing) check(t *testing.T, when string, last bool) {
	t.Helper()
	for _, l := range lates {
		want := l.has
		if last && l.now != "" {
			want = l.now
		}
		if got := s.text(s.told[in(l.name, l.file)]); got != want {
			t.Errorf("%s: %s: by its handle it is %q, want %q", when, l.name, got, want)
		}
	}
	s.names(t, when, last)
}

func (s *standing) names(t *testing.T, when string, last bool) {
	t.Helper()
	for _, l := range lates {
		want := map[string]string{l.file: l.has}
		if last && l.want != nil {
			want = l.want
		}
		for name, want := range want {
			if got := s.named(in(l.name, name)); got != want {
				t.Errorf("%s: %s: %q is %q, want %q", when, l.name, name, got, want)
			}
		}
	}
}

// outside is the root as the host sees it. Who looks at the upper alone, as a diff or a
// commit does, sees the same, and so does a copy of it, as a snapshot is.
func (s *standing) outside(t *testing.T, when string) string {
	t.Helper()
	sum := s.on.Sum(s.spec.Target)
	v, err := layered.OpenUpper(s.spec.LayerDirs, s.spec.UpperDir)
	must(t, err)
	defer v.Close()
	if d := cmp.Diff(sum, s.on.SumView(v)); d != "" {
		t.Errorf("%s (-root +upper):\n%s", when, d)
	}
	to := s.on.NewUpper()
	_, err = upper.Copy(t.Context(), s.spec.LayerDirs, s.spec.UpperDir, to.UpperDir+"/upper", nil)
	must(t, err)
	m := s.on.Mount(to)
	if d := cmp.Diff(sum, s.on.Sum(m.Target)); d != "" {
		t.Errorf("%s (-root +copy):\n%s", when, d)
	}
	s.on.Unmount(m)
	must(t, s.on.Uppers.Remove(t.Context(), to.UpperID))
	return sum
}

// TestListedThenRestarted: golden files that a board has only listed before the daemon was
// restarted, so that nobody knows their names when they are changed by their handles. Their
// copies are in the index alone. They are there after a power cut, and are files as others.
func TestListedThenRestarted(t *testing.T) {
	for _, c := range []struct {
		name, fsType string
		looked       bool // before and between what is done by handles and by names
	}{
		{"ext4", "ext4", false}, {"ext4, looked at", "ext4", true}, {"xfs", "xfs", false}, {"btrfs", "btrfs", false},
	} {
		t.Run(c.name, func(t *testing.T) { listedThenRestarted(t, c.fsType, c.looked) })
	}
}

func listedThenRestarted(t *testing.T, fsType string, looked bool) {
	im := newImage(t, fsType, t.TempDir(), 400)
	on := stand(t, im.dir)
	for _, l := range lates {
		d := filepath.Join(on.Layers[0], l.name)
		for _, n := range []string{"a", "b", "x"} {
			on.Write(d+"/"+n, "golden")
		}
		must(t, errors.Join(os.Link(d+"/x", d+"/y"), os.Symlink("a", d+"/link")))
	}
	must(t, os.Mkdir(on.Layers[0]+"/beside", 0o755))
	on.Rebase()
	s := stands(t, on, on.NewUpper(), map[string][]byte{})
	for path, e := range s.list(t) {
		s.told[path] = e.handle
	}
	if fsType == "btrfs" { // there the kernel knows the names until the machine goes down
		s.remount(t)
	}
	s.restart(t)
	s.restart(t)
	run(t, "sync")

	if looked { // what was opened before it is listed again is known without its name
		for _, l := range lates {
			if got := s.text(s.told[in(l.name, l.file)]); got != "golden" && got != "a" {
				t.Errorf("%s: at first it is %q", l.name, got)
			}
		}
		s.list(t)
	}
	s.dos(t)
	first := im.now(t)
	for _, l := range lates {
		if _, err := os.Lstat(filepath.Join(s.ov.Upper, l.name)); err == nil {
			t.Errorf("%s: its copy has a name", l.name)
		}
	}
	if there := s.onDisk(t); there.Files != int64(len(lates)) {
		t.Errorf("%d copies of %d files", there.Files, len(lates))
	}
	if looked {
		s.check(t, "at once", false)
		s.restart(t)
		s.check(t, "restarted after that", false)
		list := s.list(t)
		for _, l := range lates {
			if e := list[in(l.name, l.file)]; e.attr.Size != uint64(len(l.has)) || string(e.handle) != string(s.told[in(l.name, l.file)]) {
				t.Errorf("%s: listed with %d bytes and the handle %x", l.name, e.attr.Size, e.handle)
			}
		}
		s.outside(t, "at once")
	}
	s.counts(t, "by handle", 0)
	s.thens(t)
	second := im.now(t)
	s.check(t, "by names", true)
	dirs := int64(0)
	if looked { // the daemon that was restarted knew the names of two files when it changed them
		dirs = 2
	}
	s.counts(t, "by names", dirs)
	was := s.outside(t, "by names")
	s.restart(t)
	s.check(t, "restarted", true)
	before, err := overlay.Footprint(t.Context(), s.spec.UpperDir)
	must(t, err)
	for range 2 {
		s.remount(t)
		s.check(t, "mounted again", true)
		if d := cmp.Diff(was, s.outside(t, "mounted again")); d != "" {
			t.Errorf("mounted again (-was +is):\n%s", d)
		}
	}
	after, err := overlay.Footprint(t.Context(), s.spec.UpperDir)
	must(t, err)
	if after.Files > before.Files+1 { // what keeps the copies is a directory more
		t.Errorf("%+v is counted, and after a mount %+v", before, after)
	}
	s.end(t)
	run(t, "umount", "-R", im.dir)

	t.Run("power cut after the handles", func(t *testing.T) { first.afterCut(t, fsType, s, false) })
	t.Run("power cut after the names", func(t *testing.T) { second.afterCut(t, fsType, s, true) })
}

// afterCut serves the root that the disk has; last is after thens.
func (im *image) afterCut(t *testing.T, fsType string, was *standing, last bool) {
	im.attach(t, fsType)
	on := stand(t, im.dir)
	on.Base = was.on.Base
	s := stands(t, on, on.Spec(was.spec.UpperID), was.told)
	s.check(t, "at once", last)
	s.outside(t, "at once")
	if !last {
		s.thens(t)
		s.names(t, "by names", true) // until the next mount handles of what is removed are good
	}
	s.remount(t)
	s.check(t, "mounted again", true)
	s.outside(t, "mounted again")
	s.end(t)
}
