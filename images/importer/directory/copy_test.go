package directory_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/directory"
	"rubus/images/importer/imagetest"
	"rubus/images/importer/layer"
	"rubus/images/internal/mounttest"
	"rubus/images/internal/onefs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func copyOf(t *testing.T, dir string, o directory.Options, to imagetest.Options) (imagetest.Layer, error) {
	t.Helper()
	fd, err := onefs.OpenRoot(dir)
	must(t, err)
	defer unix.Close(fd)
	return imagetest.Build(t, to, func(b *layer.Builder) error { return directory.Copy(b, fd, dir, o) })
}

// Sockets, other mounts and what overlayfs notes for itself stay behind, and it is noted; of an
// upper the marks of overlayfs are what it says.
func TestLeftOut(t *testing.T) {
	src, below := t.TempDir(), t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	for _, d := range []string{"etc", "proc", "run", "boot"} {
		must(t, os.Mkdir(p(d), 0o755))
	}
	must(t, os.Chmod(src, 0o755))
	must(t, os.WriteFile(p("etc/resolv.conf"), nil, 0o644))
	l, err := net.Listen("unix", p("run/sock"))
	must(t, err)
	defer l.Close()
	must(t, unix.Mknod(p("etc/gone"), unix.S_IFCHR, 0))
	must(t, unix.Lsetxattr(p("etc"), "trusted.overlay.opaque", []byte("y"), 0))
	must(t, unix.Lsetxattr(p("etc"), "trusted.overlay.origin", []byte("x"), 0))
	must(t, unix.Lsetxattr(p("etc"), "user.overlay.opaque", []byte("y"), 0))
	must(t, unix.Lsetxattr(p("etc"), "user.mine", []byte("y"), 0))
	for name, c := range map[string]struct {
		o     directory.Options
		below []string
		names []string
		etc   string
		xattr string
		notes []string
	}{
		"a root": {
			directory.Options{},
			nil,
			[]string{"", "boot", "etc", "proc", "run"},
			"dir 0755 0:0", "user.mine",
			[]string{"sockets", `"run/sock"`, `"proc"`, `"etc/resolv.conf"`, "overlayfs", "whiteouts"},
		},
		"an upper": {
			directory.Options{Upper: true},
			[]string{below},
			[]string{"", "boot", "etc", "etc/gone", "proc", "run"},
			"dir 0755 0:0 opaque", "trusted.overlay.opaque user.mine",
			[]string{"sockets", `"run/sock"`, `"proc"`, `"etc/resolv.conf"`, "user.overlay.opaque"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var l imagetest.Layer
			mounttest.Run(t, func() {
				err := errors.Join(
					unix.Mount("proc", p("proc"), "proc", 0, ""),
					unix.Mount("/etc/hostname", p("etc/resolv.conf"), "", unix.MS_BIND, ""),
				)
				if err == nil {
					l, err = copyOf(t, src, c.o, imagetest.Options{Below: c.below})
				}
				if err != nil {
					t.Error(err)
				}
			})
			var names []string
			for n := range l.Entries {
				names = append(names, n)
			}
			slices.Sort(names)
			if !slices.Equal(names, c.names) || l.Entries["etc"] != c.etc {
				t.Errorf("names %q, want %q; etc is %q", names, c.names, l.Entries["etc"])
			}
			if got := xattrs(t, l.Dir+"/etc"); got != c.xattr {
				t.Errorf("etc has %q, want %q", got, c.xattr)
			}
			notes := strings.Join(l.Notes, "\n")
			for _, want := range c.notes {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes don't speak of %s:\n%s", want, notes)
				}
			}
		})
	}
}

// xattrs lists the attributes that say something here.
func xattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 1<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	var out []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Names of one file are names of one file, holes stay holes, and what there is in all is known.
func TestContent(t *testing.T) {
	src := t.TempDir()
	must(t, os.Chmod(src, 0o711))
	must(t, os.Mkdir(src+"/sub", 0o700))
	must(t, os.WriteFile(src+"/a", []byte("content"), 0o640))
	must(t, os.Link(src+"/a", src+"/sub/b"))
	must(t, os.Symlink("nowhere", src+"/l"))
	must(t, os.Link(src+"/l", src+"/m"))
	big := append(make([]byte, 3<<20), bytes.Repeat([]byte("x"), 70<<10)...)
	must(t, os.WriteFile(src+"/big", big, 0o644))
	must(t, os.WriteFile(src+"/hole", nil, 0o644))
	must(t, os.Truncate(src+"/hole", 5<<30))
	l, err := copyOf(t, src, directory.Options{Count: true}, imagetest.Options{Limits: bounds.Limits{MaxSize: 8 << 30}})
	must(t, err)
	for p, want := range map[string]string{
		"": "dir 0711 0:0", "sub": "dir 0700 0:0", "a": "file 0640 0:0 7", "sub/b": "hardlink to a", "l": "symlink 0777 0:0 to nowhere", "m": "hardlink to l",
		"big": "file 0644 0:0 3217408", "hole": "file 0644 0:0 5368709120",
	} {
		if l.Entries[p] != want {
			t.Errorf("%q is %q, want %q", p, l.Entries[p], want)
		}
	}
	if len(l.Entries) != 8 || l.Bytes != 7+70<<10 || len(l.Notes) != 0 {
		t.Errorf("%d names, %d bytes, notes %q", len(l.Entries), l.Bytes, l.Notes)
	}
	if got, err := os.ReadFile(l.Dir + "/big"); err != nil || !bytes.Equal(got, big) {
		t.Errorf("big has other content, %v", err)
	}
}

// What would not fit is seen before it is copied, when somebody counts.
func TestBounds(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(src+"/a", bytes.Repeat([]byte("x"), 1<<20), 0o644))
	for name, c := range map[string]struct {
		limits bounds.Limits
		want   error
	}{
		"fits":          {bounds.Limits{MaxBytes: 1 << 20}, nil},
		"a byte less":   {bounds.Limits{MaxBytes: 1<<20 - 1}, bounds.ErrTooBig},
		"size too big":  {bounds.Limits{MaxSize: 1<<20 - 1}, bounds.ErrTooBig},
		"size just fit": {bounds.Limits{MaxSize: 1 << 20}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := copyOf(t, src, directory.Options{}, imagetest.Options{Limits: c.limits}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
