package layer_test

import (
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"rubus/images/importer/imagetest"
	"rubus/images/importer/layer"
	"rubus/images/treesum"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"": "", ".": "", "./": "", "etc": "etc", "./etc//x/./": "etc/x", "a/..b/...": "a/..b/...",
		"/etc": "is absolute", "..": "climbs out", "a/../b": "climbs out", "a/..": "climbs out", "a\x00b": "NUL byte",
		strings.Repeat("n", 255): strings.Repeat("n", 255), strings.Repeat("n", 256): "longer than 255",
		strings.Repeat("d/", 2047) + "d": strings.Repeat("d/", 2047) + "d", strings.Repeat("d/", 2048) + "d": "longer than 4095",
	} {
		got, err := layer.CleanPath(in)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%.50q is %.80q, want %.80q", in, got, want)
		}
	}
}

// file, dir and so on make names as a source does: parents first, where they lie.
type maker struct {
	t *testing.T
	b *layer.Builder
}

func (m maker) make(p string, e *treesum.Entry) error {
	dir, name, err := m.b.Parent(p, 0, 0)
	switch {
	case err != nil:
		return err
	case e.Type == treesum.Dir:
		_, err = m.b.Mkdir(dir, name, e)
		return err
	case e.Type == treesum.File:
		f, err := m.b.Create(dir, name, e)
		if err != nil {
			return err
		}
		return f.Done()
	}
	return m.b.Special(dir, name, e)
}

func (m maker) link(p, to string) error {
	dir, name, err := m.b.Parent(p, 0, 0)
	if err != nil {
		return err
	}
	return m.b.Link(dir, name, m.b.Root.Find(to))
}

func file() *treesum.Entry             { return &treesum.Entry{Type: treesum.File, Mode: 0o644} }
func folder() *treesum.Entry           { return &treesum.Entry{Type: treesum.Dir, Mode: 0o750, UID: 7} }
func symlink(to string) *treesum.Entry { return &treesum.Entry{Type: treesum.Symlink, Target: to} }
func node(major, minor uint32) *treesum.Entry {
	return &treesum.Entry{Type: treesum.Char, Mode: 0o600, Major: major, Minor: minor}
}

func build(t *testing.T, o imagetest.Options, fill func(m maker) error) (imagetest.Layer, error) {
	t.Helper()
	return imagetest.Build(t, o, func(b *layer.Builder) error { return fill(maker{t, b}) })
}

// below is a layer to stack on.
func below(t *testing.T) []string {
	t.Helper()
	lowest, err := build(t, imagetest.Options{}, func(m maker) error {
		return errors.Join(
			m.make("etc", folder()), m.make("etc/file", file()), m.make("etc/sub/deep", file()),
			m.make("bin", symlink("usr/bin")), m.make("usr/bin/sh", file()), m.make("abs", symlink("/usr/../etc")), m.make("etc/up", symlink("/usr/bin")),
			m.make("loop", symlink("loop")), m.make("covered/file", file()), m.make("gone", file()),
		)
	})
	must(t, err)
	upper, err := build(t, imagetest.Options{Below: []string{lowest.Dir}}, func(m maker) error {
		opaque := folder()
		opaque.Xattrs = map[string]string{layer.XattrOpaque: "y"}
		return errors.Join(m.make("covered", opaque), m.b.Whiteout("gone"), m.make("etc/upper", file()))
	})
	must(t, err)
	return []string{upper.Dir, lowest.Dir}
}

func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		fill func(m maker) error
		want map[string]string
		err  string
	}{
		"implied directories": {
			func(m maker) error { return m.make("a/b/c", file()) },
			map[string]string{"a": "dir 0755 0:0", "a/b": "dir 0755 0:0", "a/b/c": "file 0644 0:0 0"},
			"",
		},
		"a directory said later": {
			func(m maker) error { return errors.Join(m.make("a/b", file()), m.make("a", folder())) },
			map[string]string{"a": "dir 0750 7:0", "a/b": "file 0644 0:0 0"},
			"",
		},
		"a link replaced": {
			func(m maker) error {
				return errors.Join(m.make("a", symlink("/etc")), m.make("a", folder()), m.make("a/x", file()))
			},
			map[string]string{"a": "dir 0750 7:0", "a/x": "file 0644 0:0 0"},
			"",
		},
		"an empty directory replaced": {
			func(m maker) error { return errors.Join(m.make("a", folder()), m.make("a", file())) },
			map[string]string{"a": "file 0644 0:0 0"},
			"",
		},
		"a full directory replaced": {
			func(m maker) error { return errors.Join(m.make("a/b", folder()), m.make("a", file())) },
			nil, `"a" would replace a directory that holds something`,
		},
		"through a link": {
			func(m maker) error { return errors.Join(m.make("a", symlink("/tmp")), m.make("a/x", file())) },
			nil, `written through the symbolic link "a"`,
		},
		"below a file": {
			func(m maker) error { return errors.Join(m.make("a", file()), m.make("a/x/y", file())) },
			nil, `lies below "a", which is no directory`,
		},
		"linked across directories": {
			func(m maker) error {
				return errors.Join(m.make("a/x", file()), m.link("b/y", "a/x"), m.link("a/x", "a/x"))
			},
			map[string]string{"a": "dir 0755 0:0", "a/x": "file 0644 0:0 0", "b": "dir 0755 0:0", "b/y": "hardlink to a/x"},
			"",
		},
		"a whiteout over nothing": {
			func(m maker) error {
				return errors.Join(m.make("a", node(0, 0)), m.make("s", &treesum.Entry{Type: treesum.Socket}))
			},
			map[string]string{},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := build(t, imagetest.Options{}, c.fill)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, layer.ErrHostile) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			must(t, err)
			c.want[""] = "dir 0755 0:0"
			if !maps.Equal(l.Entries, c.want) {
				t.Errorf("%q, want %q", l.Entries, c.want)
			}
		})
	}
}

// A directory that is made only for what is in it is like the one below; whiteouts hide.
func TestOnLayers(t *testing.T) {
	l, err := build(t, imagetest.Options{Below: below(t)}, func(m maker) error {
		return errors.Join(m.make("etc/new", file()), m.make("covered/new", file()), m.make("other/new", file()), m.b.Whiteout("etc/file"))
	})
	must(t, err)
	want := map[string]string{
		"": "dir 0755 0:0", "etc": "dir 0750 7:0", "etc/new": "file 0644 0:0 0", "etc/file": "char 0000 0:0 0,0",
		"covered": "dir 0750 7:0", "covered/new": "file 0644 0:0 0", "other": "dir 0755 0:0", "other/new": "file 0644 0:0 0",
	}
	if !maps.Equal(l.Entries, want) {
		t.Errorf("%q, want %q", l.Entries, want)
	}
}

func TestLower(t *testing.T) {
	l, err := layer.OpenLower(below(t))
	must(t, err)
	defer l.Close()
	for p, want := range map[string]byte{
		"": treesum.Dir, "etc": treesum.Dir, "etc/file": treesum.File, "etc/upper": treesum.File, "etc/sub/deep": treesum.File, "bin": treesum.Symlink,
		"gone": 0, "covered": treesum.Dir, "covered/file": 0, "none": 0, "etc/file/below": 0, "bin/sh": 0,
	} {
		e, err := l.Entry(p)
		switch {
		case err != nil:
			t.Errorf("%q: %v", p, err)
		case e == nil && want != 0, e != nil && e.Type != want:
			t.Errorf("%q is %+v, want type %q", p, e, want)
		}
	}
	if _, err := layer.OpenLower([]string{t.TempDir(), "/no/such"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is not there: %v", err)
	}
}

// Links of the layers below are followed as on the root that they make, never out of it.
func TestResolve(t *testing.T) {
	dirs := below(t)
	_, err := build(t, imagetest.Options{Below: dirs}, func(m maker) error {
		if err := m.make("own", folder()); err != nil {
			return err
		}
		for in, want := range map[string]string{
			"x": "x", "etc/x": "etc/x", "bin/x": "usr/bin/x", "bin": "bin", "abs/x": "etc/x", "abs/sub/x": "etc/sub/x", "etc/up/x": "usr/bin/x", "own/x": "own/x", "none/x": "none/x",
			"loop/x": "error",
		} {
			got, err := m.b.Resolve(in)
			if err != nil {
				got = "error"
			}
			if got != want {
				t.Errorf("%q is %q, %v, want %q", in, got, err, want)
			}
		}
		return nil
	})
	must(t, err)
}

func TestDevices(t *testing.T) {
	for name, c := range map[string]struct {
		devices layer.Devices
		want    string // of dev/null, of null
		notes   string
		err     error
	}{
		"as it is": {"", "char 0600 0:0 1,3, char 0600 0:0 1,3", `outside of /dev were kept (--device-nodes drop leaves them out): "null"`, nil},
		"kept":     {layer.DevicesKeep, "char 0600 0:0 1,3, char 0600 0:0 1,3", `outside of /dev`, nil},
		"dropped":  {layer.DevicesDrop, ", ", `device nodes were left out: "dev/null", "null"`, nil},
		"refused":  {layer.DevicesRefuse, "", "", layer.ErrDevice},
		"nonsense": {"some", "", "", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.devices.Check(); (err != nil) != (c.err == errAny) {
				t.Errorf("check: %v", err)
			}
			if c.err == errAny {
				return
			}
			l, err := build(t, imagetest.Options{Devices: c.devices}, func(m maker) error {
				return errors.Join(m.make("dev/null", node(1, 3)), m.make("null", node(1, 3)))
			})
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if got := l.Entries["dev/null"] + ", " + l.Entries["null"]; err == nil && got != c.want {
				t.Errorf("they are %q, want %q", got, c.want)
			}
			if got := strings.Join(l.Notes, "\n"); !strings.Contains(got, c.notes) {
				t.Errorf("notes %q, want %q", got, c.notes)
			}
		})
	}
}

var errAny = errors.New("any")

func TestNotes(t *testing.T) {
	n := layer.NewNotes()
	n.Add("first", "a")
	n.Add("second", "")
	for _, p := range []string{"b", "c\n", "d", "e"} {
		n.Add("first", p)
	}
	n.Add("second", "")
	if got, want := strings.Join(n.Lines(), "|"), `first: "a", "b", "c\n" and 2 more|second`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestKeepXattr(t *testing.T) {
	for name, want := range map[string]bool{
		"user.x": true, "security.capability": true, "system.posix_acl_access": true, "trusted.x": true,
		"trusted.overlay.opaque": false, "user.overlay.origin": false, "security.selinux": false,
	} {
		n := layer.NewNotes()
		if got := layer.KeepXattr(n, "p", name); got != want || (len(n.Lines()) == 0) != want {
			t.Errorf("%s: %v, notes %q", name, got, n.Lines())
		}
	}
}

// Blocks may come in any order; zeros are no content, and a file ends where it says.
func TestContent(t *testing.T) {
	const size = 2*treesum.BlockSize + 5
	l, err := build(t, imagetest.Options{}, func(m maker) error {
		e := file()
		e.Size = size
		f, err := m.b.Create(m.b.Root, "f", e)
		must(t, err)
		f.Expect()
		f.Expect()
		return errors.Join(f.Put(2, []byte("end!\n")), f.Put(0, make([]byte, treesum.BlockSize)), f.Done())
	})
	must(t, err)
	b, err := os.ReadFile(l.Dir + "/f")
	must(t, err)
	if len(b) != size || !strings.HasSuffix(string(b), "\x00end!\n") || l.Bytes != 5 {
		t.Errorf("%d bytes that end with %q, %d on the disk", len(b), b[max(0, len(b)-6):], l.Bytes)
	}
}
